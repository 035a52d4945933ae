// What one process may do: as root, as an ordinary user, and where userfaultfd is refused.

import assert from 'node:assert/strict';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  capabilities,
  DirtyTracker,
  Region,
  Snapshot,
  UffdError,
  Userfaultfd,
  type AccessName,
  type Capabilities,
} from '../../lib/index.js';
import { testing } from '../support/testing.js';

const EPERM = 1;
const ENOSYS = 38;

export function print(): void {
  console.log(JSON.stringify(capabilities()));
}

function descriptors(): string[] {
  return readdirSync('/proc/self/fd');
}

export function rootHasAll(): void {
  const found = capabilities();
  assert.deepEqual(
    found.access.map(({ access, code, errno }) => [access, code, errno]),
    [
      ['device', undefined, 0],
      ['syscall', undefined, 0],
      ['user-mode-only', undefined, 0],
    ],
  );
  assert.equal(found.handlesKernelFaults, true);
  for (const feature of ['PAGEFAULT_FLAG_WP', 'WP_UNPOPULATED', 'WP_ASYNC', 'THREAD_ID', 'EVENT_FORK']) {
    assert.ok(found.features.includes(feature), feature);
  }
  for (const ioctl of ['REGISTER', 'UNREGISTER', 'API']) assert.ok(found.ioctls.includes(ioctl), ioctl);
  assert.deepEqual(found.pagemapScan, { works: true, code: undefined });
  assertEngines(found, true);
  assert.deepEqual(found.problems, []);
}

function assertEngines(found: Capabilities, works: boolean): void {
  assert.deepEqual(
    found.engines.map((engine) => [engine.name, engine.works, engine.reason === undefined]),
    [
      ['wp-async', works, works],
      // An ordinary user must say that system calls may fail.
      ['wp-sync', works && found.handlesKernelFaults, works && found.handlesKernelFaults],
      ['compare', true, true],
    ],
  );
}

export function describesTheMachine(): void {
  const found = capabilities();
  assert.equal(found.platform, 'linux');
  assert.equal(found.architecture, process.arch);
  assert.equal(found.node, process.version);
  assert.equal(found.kernel, readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim());
  const kernelPageKilobytes = /^KernelPageSize:\s+(\d+) kB$/m.exec(
    readFileSync('/proc/self/smaps', 'utf8'),
  )![1];
  assert.equal(found.pageSize, Number(kernelPageKilobytes) * 1024);
  const huge = readdirSync('/sys/kernel/mm/hugepages').map(
    (name) => Number.parseInt(name.slice('hugepages-'.length)) * 1024,
  );
  assert.deepEqual(
    found.hugePages.sizes,
    huge.sort((a, b) => a - b),
  );
  const transparent = readFileSync('/sys/kernel/mm/transparent_hugepage/enabled', 'utf8');
  assert.ok(transparent.includes(`[${found.hugePages.transparent}]`), transparent);
  assert.match(found.featureBits, /^0x[0-9a-f]+$/);
  const set = BigInt(found.featureBits).toString(2).replaceAll('0', '').length;
  assert.equal(found.features.length, set, 'every bit has a name');
  // Other tests may take or leave the huge pages meanwhile.
  const [anonymous, memfd, hugetlb] = found.memory;
  assert.deepEqual(anonymous, { backing: 'anonymous', works: true, reason: undefined });
  assert.deepEqual(memfd, { backing: 'memfd', works: true, reason: undefined });
  assert.equal(hugetlb!.works, hugetlb!.reason === undefined);
  const again: Capabilities = { ...capabilities(), memory: found.memory };
  assert.deepEqual(JSON.parse(JSON.stringify(found)), JSON.parse(JSON.stringify(again)));
}

export function ordinaryUserIsToldWhy(): void {
  assert.notEqual(process.getuid!(), 0);
  const found = capabilities();
  assert.deepEqual(
    found.access.map(({ access, code }) => [access, code]),
    [
      ['device', 'EACCES'],
      ['syscall', 'EPERM'],
      ['user-mode-only', undefined],
    ],
  );
  assert.equal(found.handlesKernelFaults, false);
  assertEngines(found, true);
  assert.ok(found.features.includes('WP_UNPOPULATED'));
  assert.equal(found.pagemapScan.works, true);
  assert.deepEqual(
    found.problems.map(({ id, severity }) => [id, severity]),
    [
      ['sysctl', 'limit'],
      ['device-permissions', 'limit'],
    ],
  );
  const [sysctl, device] = found.problems;
  assert.match(sysctl!.cause, /vm\.unprivileged_userfaultfd is 0.*CAP_SYS_PTRACE/);
  assert.match(sysctl!.remedy, /sysctl vm\.unprivileged_userfaultfd=1/);
  assert.match(device!.cause, /\/dev\/userfaultfd.*EACCES/);
  assert.match(device!.remedy, /group.*\/dev\/userfaultfd/);
}

/** Not only said to work: done. */
export function ordinaryUserTracks(): void {
  assert.notEqual(process.getuid!(), 0);
  using region = Region.allocate({ bytes: 64 * 4096 });
  const { pageSize } = region;
  using tracker = new DirtyTracker(region);
  assert.equal(tracker.collect().pageCount, 0);

  region.bytes[5 * pageSize + 17] = 1;
  assert.deepEqual([...tracker.collect()], [{ offset: 5 * pageSize, length: pageSize }]);

  const directory = mkdtempSync(path.join(os.tmpdir(), 'uffd-nobody-'));
  try {
    const file = path.join(directory, 'bytes');
    writeFileSync(file, Buffer.alloc(2 * pageSize, 7));
    const fd = openSync(file, 'r');
    assert.equal(readSync(fd, region.bytes, 9 * pageSize, 2 * pageSize, 0), 2 * pageSize);
    closeSync(fd);
  } finally {
    rmSync(directory, { recursive: true });
  }
  assert.equal(region.bytes[11 * pageSize - 1], 7);
  assert.deepEqual([...tracker.collect()], [{ offset: 9 * pageSize, length: 2 * pageSize }]);
  assert.equal(tracker.collect().pageCount, 0);

  using snapshot = Snapshot.take(region);
  region.bytes.fill(9);
  assert.equal(snapshot.restore().pages, 64);
  assert.equal(region.bytes[5 * pageSize + 17], 1);
  assert.equal(region.bytes[0], 0);
}

/** An ordinary user does not get as far as the filter with the device. */
function outcomeOf(access: AccessName, code: string, errno: number): [string, number] {
  return access === 'device' && process.getuid!() !== 0 ? ['EACCES', -13] : [code, -errno];
}

function assertRefused(use: () => unknown, code: string, errno: number): UffdError {
  let thrown: unknown;
  try {
    use();
  } catch (error) {
    thrown = error;
  }
  assert.ok(thrown instanceof UffdError, String(thrown));
  assert.equal(thrown.code, code);
  assert.equal(thrown.errno, -errno);
  assert.equal(typeof thrown.syscall, 'string');
  assert.match(thrown.hint!, /doctor/);
  assert.ok(thrown.message.includes(code));
  assert.deepEqual(
    new Set(thrown.attempts!.map((each) => each.access)),
    new Set(['device', 'syscall', 'user-mode-only']),
  );
  for (const attempt of thrown.attempts!) {
    assert.deepEqual([attempt.code, attempt.errno], outcomeOf(attempt.access, code, errno), attempt.access);
  }
  return thrown;
}

function refused(code: string, errno: number): void {
  // Node opens what it needs for reading files with the first use.
  const region = Region.allocate({ bytes: 16 * 4096 });
  descriptors();
  assert.equal(testing().refuseUserfaultfd(errno), 0);
  const before = descriptors();

  const found = capabilities();
  assert.deepEqual(
    found.access.map((each) => [each.access, each.code, each.errno]),
    (['device', 'syscall', 'user-mode-only'] as const).map((access) => [
      access,
      ...outcomeOf(access, code, errno),
    ]),
  );
  assert.equal(found.handlesKernelFaults, false);
  assert.deepEqual(found.features, []);
  assertEngines(found, false);
  const problem = found.problems.find((each) => each.id === 'seccomp' || each.id === 'no-userfaultfd');
  assert.ok(problem, JSON.stringify(found.problems));
  assert.equal(problem.severity, 'error');
  assert.ok(problem.cause.length > 20 && problem.remedy.length > 20);
  // This filter is the cause, whatever errno it gives.
  assert.equal(problem.id, 'seccomp');
  assert.ok(problem.cause.includes(code));
  assert.match(problem.remedy, /seccomp profile.*\/dev\/userfaultfd/);
  assert.equal(found.pagemapScan.works, true);

  for (let round = 0; round < 20; round++) {
    assertRefused(() => Userfaultfd.open(), code, errno);
    assertRefused(() => new DirtyTracker(region, { engine: 'wp-async' }), code, errno);
    assertRefused(
      () => new DirtyTracker([new Uint8Array(8192), region], { engine: 'wp-async' }),
      code,
      errno,
    );
    assertRefused(() => Snapshot.take(new SharedArrayBuffer(8192)), code, errno);
  }
  assert.deepEqual(descriptors(), before);
  // The memory is just memory, and can be let go.
  region.bytes.fill(1);
  region.close();
  assert.equal(readdirSync('/proc/self/task').some(isOurs), false, 'no thread of ours is left');
}

function isOurs(tid: string): boolean {
  return readFileSync(`/proc/self/task/${tid}/comm`, 'utf8').startsWith('uffd-loop');
}

export function refusedWithEperm(): void {
  refused('EPERM', EPERM);
}

export function refusedWithEnosys(): void {
  refused('ENOSYS', ENOSYS);
}

export function probingLeavesNothing(): void {
  capabilities();
  const descriptorsBefore = descriptors();
  const threadsBefore = readdirSync('/proc/self/task');
  for (let i = 0; i < 100; i++) capabilities();
  assert.deepEqual(descriptors(), descriptorsBefore);
  assert.deepEqual(readdirSync('/proc/self/task'), threadsBefore);
}

export async function probingDisturbsNobody(): Promise<void> {
  using region = Region.allocate({ bytes: 8 * 4096 });
  using tracked = Region.allocate({ bytes: 8 * 4096 });
  const { pageSize } = region;
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  using tracker = new DirtyTracker(tracked);
  tracked.bytes[3 * pageSize] = 1;
  const { features } = uffd;

  capabilities();

  assert.equal(uffd.armedPages(region), 8);
  assert.deepEqual(uffd.features, features);
  region.bytes[2 * pageSize] = 1;
  assert.equal(uffd.armedPages(region), 7);
  for await (const event of uffd) {
    assert.equal(event.type, 'pagefault');
    assert.equal(Math.floor(event.offset / pageSize), 2);
    break;
  }
  assert.deepEqual([...tracker.collect()], [{ offset: 3 * pageSize, length: pageSize }]);
}

/** What ran out, real or said to have, is told as that, and not as a kernel that is too old. */
function assertShortOf(code: string, remedy: RegExp): void {
  const found = capabilities();
  const id = code === 'ENOMEM' ? 'memory' : 'descriptors';
  assert.deepEqual(
    found.problems.map((problem) => [problem.id, problem.severity]),
    [[id, 'error']],
  );
  assert.ok(found.problems[0]!.cause.includes(code));
  assert.match(found.problems[0]!.remedy, remedy);
  for (const use of [
    () => Userfaultfd.open(),
    () => new DirtyTracker(new ArrayBuffer(9000)),
    () => Snapshot.take(new ArrayBuffer(9000)),
  ]) {
    assert.throws(use, (error: UffdError) => {
      assert.equal(error.code, code);
      assert.match(error.hint!, remedy);
      assert.match(error.message, remedy);
      assert.doesNotMatch(error.message, /doctor/);
      return true;
    });
  }
}

/** As root: an ordinary user may not open the device, whatever there is left. */
export function shortOf(code: string, errno: string, remedy: string): void {
  assert.equal(testing().refuseUserfaultfd(Number(errno)), 0);
  assertShortOf(code, new RegExp(remedy));
}

/** `loaded`: the addon is there already; else the addon file cannot be opened either. */
export function withoutDescriptors(loaded: string): void {
  if (loaded === 'loaded') assert.deepEqual(capabilities().problems, []);
  const taken: number[] = [];
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EMFILE');
  }
  assertShortOf('EMFILE', /ulimit -n/);
  for (const file of taken) closeSync(file);
  assert.deepEqual(capabilities().problems, []);
  assert.equal(new DirtyTracker(new ArrayBuffer(9000)).closed, false);
}
