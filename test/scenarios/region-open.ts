// Opening as an ordinary user, in user-mode-only, and with no descriptors left.

import assert from 'node:assert/strict';
import { closeSync, openSync, readSync } from 'node:fs';
import { inspect } from 'node:util';
import { DirtyTracker, Region, Snapshot, UffdError, Userfaultfd, type OpenOptions } from '../../lib/index.js';

function thrownBy(use: () => unknown): UffdError {
  let thrown: unknown;
  try {
    use();
  } catch (error) {
    thrown = error;
  }
  assert.ok(thrown instanceof UffdError, `an UffdError, not ${inspect(thrown)}`);
  return thrown;
}

/** `fs.readSync` into an armed page: the kernel itself faults. */
function readIntoArmedPage(options: OpenOptions): string {
  using region = Region.allocate({ bytes: 4 * 4096 });
  region.bytes.fill(1);
  using uffd = Userfaultfd.open(options);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const zeros = openSync('/dev/zero', 'r');
  try {
    const bytes = readSync(zeros, region.bytes, region.pageSize, region.pageSize, 0);
    return `read ${bytes}: ${region.bytes[region.pageSize]}`;
  } catch (error) {
    assert.equal(region.bytes[region.pageSize], 1, 'nothing was written');
    assert.equal(uffd.armedPages(region), 4);
    return (error as NodeJS.ErrnoException).code!;
  } finally {
    closeSync(zeros);
  }
}

export function kernelFaultsAsRoot(): void {
  for (const userModeOnly of ['auto', false] as const) {
    using uffd = Userfaultfd.open({ userModeOnly });
    assert.equal(uffd.access, 'device');
    assert.equal(uffd.handlesKernelFaults, true);
    assert.equal(readIntoArmedPage({ userModeOnly }), 'read 4096: 0');
  }
  onlyUserMode();
}

export function onlyUserMode(): void {
  using uffd = Userfaultfd.open({ userModeOnly: true });
  assert.equal(uffd.access, 'user-mode-only');
  assert.equal(uffd.handlesKernelFaults, false);
  assert.deepEqual(uffd.attempts, [{ access: 'user-mode-only', errno: 0, code: undefined }]);
  assert.equal(readIntoArmedPage({ userModeOnly: true }), 'EFAULT');
  // Faults of user code are served like any other.
  using region = Region.allocate({ bytes: 4 * 4096 });
  uffd.register(region, ['missing', 'write-protect']);
  uffd.writeProtect(region);
  region.bytes.fill(3);
  assert.ok(region.bytes.every((byte) => byte === 3));
}

export function ordinaryUserOpens(): void {
  assert.notEqual(process.getuid!(), 0);
  {
    using uffd = Userfaultfd.open();
    assert.equal(uffd.access, 'user-mode-only');
    assert.equal(uffd.handlesKernelFaults, false);
    assert.deepEqual(
      uffd.attempts.map(({ access, code }) => [access, code]),
      [
        ['device', 'EACCES'],
        ['syscall', 'EPERM'],
        ['user-mode-only', undefined],
      ],
    );
    assert.ok(uffd.features.has('WP_UNPOPULATED'));
  }
  onlyUserMode();
}

export function ordinaryUserMayNotServeKernelFaults(): void {
  const error = thrownBy(() => Userfaultfd.open({ userModeOnly: false }));
  assert.equal(error.code, 'EPERM');
  assert.equal(error.errno, -1);
  assert.equal(error.syscall, 'userfaultfd');
  assert.deepEqual(error.attempts, [
    { access: 'device', errno: -13, code: 'EACCES' },
    { access: 'syscall', errno: -1, code: 'EPERM' },
  ]);
  assert.match(error.hint!, /device: EACCES, syscall: EPERM/);
}

export function ordinaryUserMayNotSeeForks(): void {
  const error = thrownBy(() => Userfaultfd.open({ features: ['EVENT_FORK'] }));
  assert.equal(error.code, 'EPERM');
  assert.equal(error.syscall, 'ioctl(UFFDIO_API)');
  assert.deepEqual(
    error.attempts!.map(({ access, code }) => [access, code]),
    [
      ['device', 'EACCES'],
      ['syscall', 'EPERM'],
      ['user-mode-only', 'EPERM'],
    ],
  );
  // user-mode-only itself works for this user: it is the feature that is refused.
  assert.match(`${error.message} ${error.hint}`, /EVENT_FORK/);
}

export function ordinaryUserDoesWithoutForks(): void {
  using uffd = Userfaultfd.open({ optionalFeatures: ['WP_UNPOPULATED', 'EVENT_FORK'] });
  assert.deepEqual([...uffd.features], ['WP_UNPOPULATED']);
}

/** Takes every descriptor this process may have. */
function takeAll(): number[] {
  const taken: number[] = [];
  for (;;) {
    try {
      taken.push(openSync('/dev/null', 'r'));
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EMFILE');
      return taken;
    }
  }
}

export function withoutDescriptors(): void {
  // What is loaded with the first use is loaded now.
  const region = Region.allocate({ bytes: 8 * 4096 });
  new DirtyTracker(region).close();
  Userfaultfd.open().close();
  thrownBy(fail);

  const outcomes: string[] = [];
  const leaks: number[] = [];
  const taken = takeAll();
  for (let free = 0; free <= 10; free++) {
    for (let i = 0; i < free; i++) closeSync(taken.pop()!);
    let outcome: string;
    try {
      const uffd = Userfaultfd.open();
      uffd.register(region, 'write-protect');
      uffd.writeProtect(region);
      region.bytes.fill(free);
      uffd.close();
      outcome = 'works';
    } catch (error) {
      outcome =
        error instanceof UffdError
          ? `${error.code} ${error.message.includes('EMFILE')} ${typeof error.syscall}`
          : inspect(error);
    }
    outcomes.push(outcome);
    const back = takeAll();
    leaks.push(free - back.length);
    taken.push(...back);
  }
  for (const fd of taken) closeSync(fd);

  assert.equal(outcomes.at(-1), 'works', outcomes.join());
  const works = outcomes.indexOf('works');
  assert.ok(works > 0, outcomes.join());
  assert.ok(
    outcomes.slice(0, works).every((each) => each === 'EMFILE true string'),
    outcomes.join('\n'),
  );
  assert.ok(
    outcomes.slice(works).every((each) => each === 'works'),
    outcomes.join('\n'),
  );
  assert.deepEqual(
    leaks,
    leaks.map(() => 0),
  );
}

/** What is opened on the way to each: the file, and for a source a duplicate that the loop reads. */
export function filesWithoutDescriptors(): void {
  const path = process.execPath;
  const region = Region.allocate({ bytes: 8 * 4096 });
  using uffd = Userfaultfd.open({ features: ['EVENT_REMOVE', 'POISON'] });
  const open = openSync(path, 'r');
  const register = (file: string | number): void => {
    uffd.register(region, 'missing', { source: { file } });
    uffd.unregister(region);
  };
  const uses: [name: string, syscall: string, use: () => void][] = [
    ['file region', 'open', () => Region.allocate({ backing: 'file', path, bytes: 4096 }).close()],
    ['source by path', 'open', () => register(path)],
    ['source by descriptor', 'fcntl(F_DUPFD_CLOEXEC)', () => register(open)],
  ];
  // What is loaded with the first use is loaded now.
  for (const [, , use] of uses) use();
  thrownBy(fail);
  const taken = takeAll();
  for (const [name, syscall, use] of uses) {
    const outcomes: string[] = [];
    for (let free = 0; free <= 3; free++) {
      for (let i = 0; i < free; i++) closeSync(taken.pop()!);
      let error: UffdError | undefined;
      try {
        use();
      } catch (thrown) {
        error = thrown as UffdError;
      }
      if (error !== undefined) {
        assert.ok(error instanceof UffdError, `${name}: ${inspect(error)}`);
        assert.match(error.hint ?? '', /ulimit -n/, name);
        assert.ok(error.message.includes(error.hint!), name);
        assert.deepEqual([error.errno, typeof error.syscall], [-24, 'string'], name);
      }
      if (free === 0) assert.equal(error?.syscall, syscall, name);
      outcomes.push(error?.code ?? 'works');
      const back = takeAll();
      assert.equal(back.length, free, `${name}: none is lost`);
      taken.push(...back);
    }
    const works = outcomes.indexOf('works');
    assert.ok(works > 0, `${name}: ${outcomes.join()}`);
    assert.ok(
      outcomes.every((each, free) => each === (free < works ? 'EMFILE' : 'works')),
      `${name}: ${outcomes.join()}`,
    );
    assert.equal(uffd.registrations.length, 0);
  }
  for (const fd of [...taken, open]) closeSync(fd);
}

function fail(): never {
  throw new UffdError('any', { code: 'ERR_ANY' });
}

/** The first tracker of a process opens the descriptor all of them share. */
export function trackerAfterShortage(): void {
  const region = Region.allocate({ bytes: 8 * 4096 });
  const taken = takeAll();
  let code: string | undefined;
  try {
    new DirtyTracker(region).close();
  } catch (error) {
    code = (error as UffdError).code;
  }
  for (const fd of taken) closeSync(fd);
  assert.equal(code, 'EMFILE');

  const tracker = new DirtyTracker(region);
  region.bytes[4096] = 1;
  assert.equal(tracker.collect().pageCount, 1);
  Snapshot.take(region).close();
}
