// What a machine lets this user do is found out by trying, and told with cause and remedy.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import {
  DEFAULT_OPTIONAL_FEATURES,
  featureBits,
  featureNames,
  ioctlNames,
  knownFeatures,
} from '../lib/features.js';
import { passScenario, type ScenarioOptions } from './support/scenario.js';
import { cannotRun } from './support/skip.js';

const isRoot = process.getuid?.() === 0;
/** Who runs the tests without privileges is an ordinary user already. */
const ordinary: ScenarioOptions = isRoot ? { asNobody: true } : {};

function needsRoot(t: TestContext): boolean {
  if (!isRoot) cannotRun(t, 'run the tests as root');
  return isRoot;
}

test('it names every feature bit, and keeps the ones that are not known', () => {
  assert.deepEqual(featureNames(0n), []);
  assert.deepEqual(featureNames(1n), ['PAGEFAULT_FLAG_WP']);
  assert.deepEqual(featureNames((1n << 13n) | (1n << 15n)), ['WP_UNPOPULATED', 'WP_ASYNC']);
  assert.deepEqual(featureNames((1n << 16n) | (1n << 17n) | (1n << 40n) | (1n << 63n)), [
    'MOVE',
    'BIT_17',
    'BIT_40',
    'BIT_63',
  ]);
  assert.equal(featureNames(0xffff_ffff_ffff_ffffn).length, 64);
  assert.equal(new Set(featureNames(0xffff_ffff_ffff_ffffn)).size, 64);
});

test('it has the numbers of the kernel header for the feature names', () => {
  // include/uapi/linux/userfaultfd.h
  const header = {
    PAGEFAULT_FLAG_WP: 0,
    EVENT_FORK: 1,
    EVENT_REMAP: 2,
    EVENT_REMOVE: 3,
    MISSING_HUGETLBFS: 4,
    MISSING_SHMEM: 5,
    EVENT_UNMAP: 6,
    SIGBUS: 7,
    THREAD_ID: 8,
    MINOR_HUGETLBFS: 9,
    MINOR_SHMEM: 10,
    EXACT_ADDRESS: 11,
    WP_HUGETLBFS_SHMEM: 12,
    WP_UNPOPULATED: 13,
    POISON: 14,
    WP_ASYNC: 15,
    MOVE: 16,
  };
  for (const [name, bit] of Object.entries(header))
    assert.equal(featureBits('features', [name]), 1n << BigInt(bit), name);
  assert.equal(featureBits('features', Object.keys(header)), (1n << 17n) - 1n);
  assert.equal(featureBits('features', undefined), 0n);
  assert.deepEqual([...knownFeatures((1n << 13n) | (1n << 50n))], ['WP_UNPOPULATED']);
});

test('it names the ioctls, and keeps the ones that are not known', () => {
  assert.deepEqual(ioctlNames((1n << 0n) | (1n << 6n) | (1n << 63n) | (1n << 30n)), [
    'REGISTER',
    'WRITEPROTECT',
    'IOCTL_30',
    'API',
  ]);
});

test('it asks for WP_UNPOPULATED by default', () => {
  assert.ok(DEFAULT_OPTIONAL_FEATURES.includes('WP_UNPOPULATED'));
  assert.notEqual(featureBits('features', DEFAULT_OPTIONAL_FEATURES), 0n);
});

test('it describes the machine', async () => {
  await passScenario('capabilities', 'describesTheMachine');
});

test('it finds all three ways, every engine and no problem as root', async (t) => {
  if (needsRoot(t)) await passScenario('capabilities', 'rootHasAll');
});

test('it tells an ordinary user what is limited, why, and what to do', async (t) => {
  if (readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'utf8').trim() !== '0') {
    cannotRun(t, 'this machine limits nobody: sysctl vm.unprivileged_userfaultfd=0');
    return;
  }
  await passScenario('capabilities', 'ordinaryUserIsToldWhy', ordinary);
});

test('it tracks writes, fs.read among them, and restores as an ordinary user', async () => {
  await passScenario('capabilities', 'ordinaryUserTracks', ordinary);
});

for (const [code, scenario] of [
  ['EPERM', 'refusedWithEperm'],
  ['ENOSYS', 'refusedWithEnosys'],
] as const) {
  test(`it never throws where a seccomp filter answers ${code}, and what needs userfaultfd throws with attempts and hint`, async () => {
    await passScenario('capabilities', scenario);
    await passScenario('capabilities', scenario, ordinary);
  });
}

for (const [code, errno, remedy] of [
  ['EMFILE', 24, 'ulimit -n'],
  ['ENFILE', 23, 'fs.file-max'],
  ['ENOMEM', 12, 'vm.max_map_count'],
] as const) {
  test(`it says what ran out and what to do, and blames no kernel, where the kernel answers ${code}`, async (t) => {
    if (needsRoot(t)) await passScenario('capabilities', 'shortOf', { args: [code, String(errno), remedy] });
  });
}

for (const loaded of ['loaded', 'not loaded']) {
  test(`it says that descriptors ran out, and works again when there are some: the addon was ${loaded}`, async (t) => {
    if (needsRoot(t)) {
      await passScenario('capabilities', 'withoutDescriptors', { args: [loaded], timeoutMs: 60_000 });
    }
  });
}

test('it leaves no descriptor and no thread behind when it probes', async () => {
  await passScenario('capabilities', 'probingLeavesNothing');
});

test('it disturbs neither an open userfaultfd nor a tracker when it probes', async () => {
  await passScenario('capabilities', 'probingDisturbsNobody');
});

test('it prints as JSON what it returns', async () => {
  const { stdout } = await passScenario('capabilities', 'print');
  const found = JSON.parse(stdout) as Record<string, unknown>;
  for (const name of ['platform', 'kernel', 'pageSize', 'access', 'features', 'engines', 'problems']) {
    assert.ok(name in found, name);
  }
});
