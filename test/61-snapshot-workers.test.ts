import { test } from 'node:test';
import { passScenario } from './support/scenario.js';

const memories = {
  wasm: 'shared Wasm memory',
  buffer: 'a SharedArrayBuffer',
  both: 'two memories at once',
};

for (const [kind, name] of Object.entries(memories)) {
  test(`it takes 100 snapshots, each of one instant, of ${name} while two Workers write and pause (B5, B8)`, async () => {
    await passScenario('snapshot-races', 'withPauses', { args: [kind], timeoutMs: 60_000 });
  });

  test(`it takes a snapshot of one instant or throws ERR_UFFD_SNAPSHOT_TORN when two Workers never pause: ${name} (B5)`, async () => {
    await passScenario('snapshot-races', 'withoutPauses', { args: [kind], timeoutMs: 60_000 });
  });

  test(`it never calls a page clean that a Worker wrote during restore(): ${name}`, async () => {
    await passScenario('snapshot-races', 'restoreAgainstWriters', { args: [kind], timeoutMs: 60_000 });
  });
}

test('it tells of a page that a Worker wrote during restore(), after it was put back', async () => {
  await passScenario('snapshot-races', 'writtenDuringRestore');
});

for (const resolver of ['loop', 'in-thread']) {
  test(`it takes 100 copy-on-write snapshots, each of one instant, of two memories while two Workers never pause: ${resolver} (B5)`, async () => {
    // The one that needs no privilege has none.
    const asNobody = resolver === 'in-thread' && process.getuid!() === 0;
    await passScenario('snapshot-races', 'copyOnWrite', { args: [resolver], timeoutMs: 600_000, asNobody });
  });
}
