// What the kernel does with the marks that say which pages were written: what this package builds on.

import { describe, test } from 'node:test';
import { passScenario, type ScenarioOptions } from './support/scenario.js';
import { withSwap } from './support/swap.js';

function it(title: string, scenario: string, args: string[] = [], options: ScenarioOptions = {}): void {
  test(`it ${title}`, async () => {
    await passScenario('scan-facts', scenario, { args, ...options });
  });
}

const MARKING = ['wp-async', 'wp-sync'];
const ALL = [...MARKING, 'compare'];
const KINDS = ['anonymous', 'memfd', 'private memfd'];

describe('what counts as written', () => {
  for (const kind of KINDS) {
    it(
      `calls everything written that is registered and was never armed: ${kind} (E)`,
      'neverArmedIsWritten',
      [kind],
    );
  }
  for (const engine of MARKING) {
    it(`counts MADV_DONTNEED and a write of the same value: ${engine} (E)`, 'countsAsWritten', [engine]);
  }
  it('counts what UFFDIO_COPY filled without write protection (E)', 'copyWithoutProtection');
  it(
    'protects every other page where it cannot register every other page: the limit of mappings (E)',
    'limitOfMappings',
    [],
    { timeoutMs: 30_000 },
  );
});

describe('who writes', () => {
  for (const engine of ALL) {
    for (const kind of KINDS) {
      it(
        `tracks buffered reads, io_uring reads and process_vm_writev: ${engine}, ${kind} (F)`,
        'kernelWritesAreTracked',
        [kind, engine],
      );
    }
    it(
      `does not see what goes through buffers fixed with io_uring before, and markDirty() tells: ${engine} (B6)`,
      'fixedBuffersAreNotSeen',
      [engine],
    );
    it(
      `does not see the end of an O_DIRECT read that was in flight, and markDirty() tells: ${engine} (B6)`,
      'directReadInFlight',
      [engine],
    );
  }
});

describe('what keeps the marks', () => {
  for (const engine of MARKING) {
    it(`reports one page for one byte written under a huge page: ${engine} (F)`, 'oneByteUnderHugePage', [
      engine,
    ]);
    for (const kind of ['anonymous', 'memfd']) {
      it(`loses no state when pages are joined to huge ones: ${engine}, ${kind} (F)`, 'collapseKeepsState', [
        kind,
        engine,
      ]);
    }
  }
  for (const engine of ALL) {
    it(
      `keeps the state of memory that is out of reach for a moment, mprotect(PROT_NONE): ${engine} (F)`,
      'outOfReachForAMoment',
      [engine],
    );
  }
  test('it keeps the state of pages on the swap device (F)', async (t) => {
    await withSwap(t, async () => {
      for (const engine of ALL) {
        for (const kind of KINDS)
          await passScenario('scan-facts', 'swapKeepsState', { args: [kind, engine] });
      }
    });
  });
  for (const kind of KINDS) {
    it(`arms again only what a scan returned: ${kind} (F)`, 'partialScan', [kind]);
  }
});

describe('a scan', () => {
  for (const room of [1, 2, 9, 10, 100, 511, 512, 513, 65_536]) {
    it(
      `is exact, tells each page once and ends: room for ${room} regions in each answer (B1)`,
      'matrix',
      [String(room)],
      { timeoutMs: 30_000 },
    );
  }
});

it('raises no fork event for posix_spawn (F)', 'spawnRaisesNoFork');
