// Loading the addon where something is in the way, and loading it twice. Each function runs in a process
// of its own (test 05).

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { capabilities, DirtyTracker, Region, Snapshot, UffdError, Userfaultfd } from '../../lib/index.js';
import type { NativeTesting } from '../../lib/binding.js';
import { sleepersInFault } from '../support/testing.js';

/** The process was started so that it may load no addon. */
export function disabled(): void {
  const { problems, engines } = capabilities();
  assert.deepEqual(
    problems.map(({ id, severity }) => [id, severity]),
    [['addon-disabled', 'error']],
  );
  assert.match(problems[0]!.remedy, /--no-addons.*--allow-addons/);
  assert.ok(engines.every(({ works }) => !works));
  assert.throws(
    () => Region.allocate({ bytes: 1 }),
    (error: UffdError) => {
      assert.equal(error.code, 'ERR_UFFD_ADDON_DISABLED');
      assert.match(error.message, /--no-addons.*--allow-addons/);
      assert.match(error.hint!, /--allow-addons/);
      assert.doesNotMatch(error.message, /\.\.|npm rebuild/);
      return true;
    },
  );
}

/** A little of everything. */
async function works(): Promise<void> {
  assert.deepEqual(
    capabilities().problems.filter(({ severity }) => severity === 'error'),
    [],
  );
  using region = Region.allocate({ bytes: 65_536 });
  using tracker = new DirtyTracker(region);
  region.bytes[5000] = 1;
  assert.ok(tracker.collect().has(5000));
  await assert.rejects(tracker.watch({ signal: AbortSignal.abort() }).next(), {
    name: 'AbortError',
    code: 'ABORT_ERR',
  });
  using snapshot = Snapshot.take(region);
  region.bytes[5000] = 2;
  assert.equal(snapshot.restore().pages, 1);
  tracker.close();
  snapshot.close();
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  region.bytes[5000] = 3;
  for await (const event of uffd) {
    assert.equal(event.type, 'pagefault');
    break;
  }
  assert.throws(() => uffd.zeropage(region), { name: 'UffdError', code: 'EEXIST' });
  assert.throws(() => region.discard(1), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
}

/** Under --frozen-intrinsics. */
export async function frozenIntrinsics(): Promise<void> {
  await works();
}

/** As a hardened program leaves it: no stack trace can be looked at. */
export async function frozenError(): Promise<void> {
  Error.prepareStackTrace = () => 'none';
  Object.freeze(Error);
  Object.freeze(Error.prototype);
  await works();
}

/** The package at another place, with an addon file of its own. */
function copyOfPackage(directory: string): string {
  const root = path.join(__dirname, '..', '..', '..');
  for (const part of ['package.json', path.join('build', 'Release', 'userfaultfd_test.node')]) {
    fs.cpSync(path.join(root, part), path.join(directory, part));
  }
  fs.cpSync(path.join(root, 'dist', 'lib'), path.join(directory, 'dist', 'lib'), { recursive: true });
  fs.symlinkSync(path.join(root, 'node_modules'), path.join(directory, 'node_modules'));
  return path.join(directory, 'dist', 'lib');
}

interface Copy {
  index: typeof import('../../lib/index.js');
  testing: NativeTesting;
}

function load(lib: string): Copy {
  // Test runners load modules anew for each file.
  for (const name of Object.keys(require.cache))
    if (name.startsWith(lib)) Reflect.deleteProperty(require.cache, name);
  /* eslint-disable @typescript-eslint/no-require-imports -- the place is only known now */
  const { binding } = require(path.join(lib, 'binding.js')) as typeof import('../../lib/binding.js');
  const index = require(path.join(lib, 'index.js')) as Copy['index'];
  /* eslint-enable @typescript-eslint/no-require-imports */
  return { index, testing: binding().testing! };
}

export const EXIT_CODE = 7;

/** A thread sleeps in a fault of each copy, and nothing but the exit listener frees it. */
export function exitOfTwoCopies(): void {
  const directory = fs.mkdtempSync(path.join(tmpdir(), 'uffd-copies-'));
  const listeners = process.listenerCount('exit');
  const libs = ['a', 'b'].map((name) => copyOfPackage(path.join(directory, name)));
  libs.forEach(load);
  const copies = libs.map(load);
  fs.rmSync(directory, { recursive: true });
  assert.equal(process.listenerCount('exit'), listeners + 2, 'one for each addon');

  const pause = new Int32Array(new SharedArrayBuffer(4));
  const file = fs.openSync(process.execPath, 'r');
  const held = copies.map(({ index, testing }) => {
    testing.disableNet('watchdog');
    testing.disableNet('cleanup');
    testing.closeBarrier('loop-before-poll');
    const region = index.Region.allocate({ bytes: 1 });
    const uffd = index.Userfaultfd.open({ userModeOnly: false });
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
    while (testing.waitingAt('loop-before-poll') === 0) Atomics.wait(pause, 0, 0, 1);
    fs.read(file, region.bytes, 0, 100, 0, () => undefined);
    return uffd;
  });
  while (sleepersInFault().length < held.length) Atomics.wait(pause, 0, 0, 1);
  console.log('READY');
  process.exit(EXIT_CODE);
}
