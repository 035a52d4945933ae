// Opening a userfaultfd: the ways, the features, and who owns a range.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { binding, isFailure, type NativeOpenFailure } from '../lib/binding.js';
import { featureNames } from '../lib/features.js';
import {
  capabilities,
  DirtyTracker,
  Region,
  Snapshot,
  UffdError,
  Userfaultfd,
  type Feature,
} from '../lib/index.js';
import { openError } from '../lib/opening.js';
import { userfaultfdDescriptors } from './scenarios/loop-support.js';
import { passScenario, type ScenarioOptions } from './support/scenario.js';
import { cannotRun } from './support/skip.js';

const { pageSize } = binding();
const BUSY = { name: 'UffdError', code: 'ERR_UFFD_BUSY' };
const ALL_FEATURES = featureNames((1n << 17n) - 1n) as Feature[];

const isRoot = process.getuid?.() === 0;
const ordinary: ScenarioOptions = isRoot ? { asNobody: true } : {};

function needsRoot(t: TestContext): boolean {
  if (!isRoot) cannotRun(t, 'run the tests as root');
  return isRoot;
}

test('it negotiates by default what makes arming whole, and no events nobody asked for', () => {
  using uffd = Userfaultfd.open();
  for (const feature of ['PAGEFAULT_FLAG_WP', 'WP_UNPOPULATED', 'THREAD_ID', 'EXACT_ADDRESS'] as const) {
    assert.ok(uffd.features.has(feature), feature);
  }
  for (const feature of [
    'EVENT_FORK',
    'EVENT_REMAP',
    'EVENT_REMOVE',
    'EVENT_UNMAP',
    'SIGBUS',
    'WP_ASYNC',
  ] as const) {
    assert.ok(!uffd.features.has(feature), feature);
  }
  assert.equal(uffd.closed, false);
  assert.equal(uffd.missedEvents, 0);
  assert.deepEqual(uffd.registrations, []);
});

test('it tries the device first and keeps what each way answered', (t) => {
  if (!needsRoot(t)) return;
  using uffd = Userfaultfd.open();
  assert.equal(uffd.access, 'device');
  assert.deepEqual(uffd.attempts, [{ access: 'device', errno: 0, code: undefined }]);
});

test('it negotiates every feature of this kernel one by one', (t) => {
  if (!needsRoot(t)) return;
  const { features } = capabilities();
  for (const feature of ALL_FEATURES.filter((each) => features.includes(each))) {
    using required = Userfaultfd.open({ features: [feature], optionalFeatures: [] });
    assert.deepEqual([...required.features], [feature]);
    using optional = Userfaultfd.open({ optionalFeatures: [feature] });
    assert.deepEqual([...optional.features], [feature]);
  }
});

test('it takes the same feature twice, required and optional', () => {
  using uffd = Userfaultfd.open({
    features: ['WP_UNPOPULATED', 'WP_UNPOPULATED'],
    optionalFeatures: ['WP_UNPOPULATED', 'THREAD_ID'],
  });
  assert.deepEqual(new Set(uffd.features), new Set(['WP_UNPOPULATED', 'THREAD_ID']));
});

function openNative(required: bigint, optional: bigint): { failure?: NativeOpenFailure; features?: bigint } {
  const native = new (binding().Userfaultfd)();
  const opened = native.open(required, optional, 0, () => undefined);
  if (isFailure(opened)) return { failure: opened };
  native.close();
  return { features: opened.features };
}

test('it leaves an optional feature out that the kernel lacks', () => {
  const unknown = 1n << 60n;
  assert.equal(openNative(0n, unknown).features, 0n);
  assert.equal(openNative(0n, unknown | (1n << 13n)).features, 1n << 13n);
});

test('it refuses with ERR_UFFD_FEATURE when the kernel lacks a required feature, and names it', () => {
  const unknown = 1n << 60n;
  const { failure } = openNative(unknown | (1n << 13n), 0n);
  assert.equal(failure?.missingFeatures, unknown);
  const error = openError(failure);
  assert.ok(error instanceof UffdError);
  assert.equal(error.code, 'ERR_UFFD_FEATURE');
  assert.match(error.message, /BIT_60/);
  assert.doesNotMatch(error.message, /WP_UNPOPULATED/);
  assert.equal(error.syscall, 'ioctl(UFFDIO_API)');
  assert.match(error.hint!, /optionalFeatures/);
  assert.ok(error.attempts!.length > 0);

  const old = openError({
    errno: -22,
    syscall: 'ioctl(UFFDIO_API)',
    attempts: [{ access: 2, errno: 0 }],
    missingFeatures: (1n << 13n) | (1n << 16n),
  });
  assert.equal(old.code, 'ERR_UFFD_FEATURE');
  assert.match(old.message, /WP_UNPOPULATED, MOVE/);
  assert.deepEqual(old.attempts, [{ access: 'user-mode-only', errno: 0, code: undefined }]);
});

test('it arms pages that were never touched with WP_UNPOPULATED, and without it none (B15)', () => {
  for (const [optionalFeatures, untouched] of [
    [undefined, 64],
    [['WP_UNPOPULATED'], 64],
    [[], 0],
  ] as const) {
    using region = Region.allocate({ bytes: 64 * pageSize });
    using uffd = Userfaultfd.open(optionalFeatures === undefined ? {} : { optionalFeatures });
    assert.equal(uffd.features.has('WP_UNPOPULATED'), untouched > 0);
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
    assert.equal(uffd.armedPages(region), untouched);

    using populated = Region.allocate({ bytes: 64 * pageSize });
    populated.bytes.fill(1);
    uffd.register(populated, 'write-protect');
    assert.equal(uffd.armedPages(populated), 0);
    uffd.writeProtect(populated);
    assert.equal(uffd.armedPages(populated), 64);
    uffd.unprotect(populated, { offset: 8 * pageSize, length: 8 * pageSize });
    assert.equal(uffd.armedPages(populated), 56);
  }
});

test('it serves faults inside system calls as root unless told otherwise; user-mode-only fails them with EFAULT (E)', async (t) => {
  if (needsRoot(t)) await passScenario('region-open', 'kernelFaultsAsRoot');
});

test('it falls to user-mode-only for an ordinary user', async () => {
  await passScenario('region-open', 'ordinaryUserOpens', ordinary);
});

test('it refuses userModeOnly: false to an ordinary user, with the errno of each way', async () => {
  await passScenario('region-open', 'ordinaryUserMayNotServeKernelFaults', ordinary);
});

test('it tells an ordinary user that EVENT_FORK is what was refused', async () => {
  await passScenario('region-open', 'ordinaryUserMayNotSeeForks', ordinary);
});

test('it does without an optional EVENT_FORK where this user may not have it', async () => {
  await passScenario('region-open', 'ordinaryUserDoesWithoutForks', ordinary);
});

test('it gives a range to one userfaultfd at a time (ERR_UFFD_BUSY)', () => {
  using region = Region.allocate({ bytes: 4 * pageSize });
  using first = Userfaultfd.open();
  using second = Userfaultfd.open();
  first.register(region, 'write-protect');
  first.writeProtect(region);
  assert.throws(() => second.register(region, 'write-protect'), BUSY);
  assert.throws(() => second.register(region, 'missing'), BUSY);
  assert.throws(() => first.register(region, 'missing'), BUSY);
  assert.equal(first.armedPages(region), 4);
  assert.equal(second.registrations.length, 0);
  assert.equal(first.registrations.length, 1);
  first.unregister(region);
  second.register(region, 'write-protect');
  second.writeProtect(region);
  assert.equal(second.armedPages(region), 4);
});

test('it notices one memory behind two regions (ERR_UFFD_BUSY)', () => {
  const memory = new WebAssembly.Memory({ initial: 1 });
  using one = Region.from(memory);
  using other = Region.from(memory);
  using uffd = Userfaultfd.open();
  uffd.register(one, 'write-protect');
  assert.throws(() => uffd.register(other, 'write-protect'), BUSY);
  assert.throws(
    () => {
      uffd.writeProtect(other);
    },
    { code: 'ERR_UFFD_NOT_REGISTERED' },
  );
  uffd.writeProtect(one);
  assert.equal(uffd.armedPages(one), 65_536 / pageSize);
});

test('it does not track what a userfaultfd has (ERR_UFFD_BUSY)', () => {
  using region = Region.allocate({ bytes: 4 * pageSize });
  using free = Region.allocate({ bytes: 4 * pageSize });
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  assert.throws(() => new DirtyTracker(region), BUSY);
  assert.throws(() => new DirtyTracker([free, region]), BUSY);
  assert.throws(() => Snapshot.take(region), BUSY);
  assert.throws(() => Snapshot.take([free, region]), BUSY);
  assert.equal(uffd.armedPages(region), 4);
  // What was tracked before the refusal was let go again.
  uffd.register(free, 'write-protect');
  uffd.unregister(region);
  using tracker = new DirtyTracker(region);
  region.bytes[pageSize] = 1;
  assert.deepEqual([...tracker.collect()], [{ offset: pageSize, length: pageSize }]);
});

test('it does not register what a tracker or a snapshot has (ERR_UFFD_BUSY)', () => {
  using region = Region.allocate({ bytes: 4 * pageSize });
  using uffd = Userfaultfd.open();
  {
    using tracker = new DirtyTracker(region);
    assert.throws(() => uffd.register(region, 'write-protect'), BUSY);
    region.bytes[2 * pageSize] = 1;
    assert.deepEqual([...tracker.collect()], [{ offset: 2 * pageSize, length: pageSize }]);
  }
  {
    using snapshot = Snapshot.take(region);
    assert.throws(() => uffd.register(region, 'missing'), BUSY);
    region.bytes[0] = 1;
    assert.equal(snapshot.restore().pages, 1);
  }
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  assert.equal(uffd.armedPages(region), 4);
});

function withDescriptorLimit(limit: number, scenario: string): void {
  const result = spawnSync(
    'sh',
    [
      '-c',
      `ulimit -n ${limit}; exec "$@"`,
      'sh',
      process.execPath,
      path.join(__dirname, 'support', 'run-scenario.js'),
      path.join(__dirname, 'scenarios', 'region-open.js'),
      scenario,
    ],
    { encoding: 'utf8', timeout: 10_000, killSignal: 'SIGKILL' },
  );
  assert.equal(
    result.status,
    0,
    `HANG or failure, signal ${result.signal}\n${result.stdout}${result.stderr}`,
  );
}

test('it says EMFILE when there are no descriptors left, at whichever step, and leaks none', () => {
  withDescriptorLimit(100, 'withoutDescriptors');
});

test('it tracks again once descriptors are free again', () => {
  withDescriptorLimit(100, 'trackerAfterShortage');
});

test('it says what to do when there is no descriptor for a file region or the file of a source, and leaks none', () => {
  withDescriptorLimit(100, 'filesWithoutDescriptors');
});

test('it takes no descriptor with it when it is closed or refused', () => {
  const region = Region.allocate({ bytes: pageSize });
  Userfaultfd.open().close();
  const before = userfaultfdDescriptors().length;
  for (let i = 0; i < 50; i++) {
    using uffd = Userfaultfd.open();
    uffd.register(region, 'missing');
    using other = Userfaultfd.open();
    assert.throws(() => other.register(region, 'missing'), BUSY);
    openNative(1n << 60n, 0n);
  }
  assert.equal(userfaultfdDescriptors().length, before);
});

test('it prints what it is', () => {
  const uffd = Userfaultfd.open({ optionalFeatures: ['WP_UNPOPULATED'] });
  using region = Region.allocate({ bytes: pageSize });
  assert.equal(inspect(uffd), `Userfaultfd { ${uffd.access}, 0 registered, WP_UNPOPULATED }`);
  uffd.register(region, 'missing');
  assert.equal(inspect(uffd), `Userfaultfd { ${uffd.access}, 1 registered, WP_UNPOPULATED }`);
  uffd.close();
  uffd.close();
  assert.equal(uffd.closed, true);
  assert.equal(inspect(uffd), 'Userfaultfd { closed }');
});
