// The only file that turns an errno into an Error, and the place of every error code.

import { getSystemErrorMap } from 'node:util';
import { printable } from './printable.js';

/** One way of opening a userfaultfd, and what came of it. */
export interface Attempt {
  /** `device` is /dev/userfaultfd, `syscall` userfaultfd(2), `user-mode-only` the latter with UFFD_USER_MODE_ONLY. */
  access: AccessName;
  /** The errno's name, or `undefined` when this way worked. */
  code: string | undefined;
  /** Negative errno, 0 when this way worked. */
  errno: number;
}

export type AccessName = 'device' | 'syscall' | 'user-mode-only';

export interface NativeFailure {
  errno: number;
  syscall: string;
}

interface UffdErrorFields {
  code: string;
  errno?: number | undefined;
  syscall?: string | undefined;
  hint?: string | undefined;
  path?: string | undefined;
  attempts?: Attempt[] | undefined;
}

/** What the kernel refused, or what the state of an object does not allow. docs/errors.md lists the codes. */
export class UffdError extends Error {
  override readonly name = 'UffdError';
  /** `'EPERM'` and the like for a system call, `'ERR_UFFD_…'` for the wrong moment. */
  readonly code: string;
  /** Negative errno when a system call failed. */
  declare readonly errno?: number;
  /** For example `'ioctl(UFFDIO_REGISTER)'`. */
  declare readonly syscall?: string;
  /** What to do about it. */
  declare readonly hint?: string;
  /** The file it is about. */
  declare readonly path?: string;
  /** For opening: each way tried and its errno. */
  declare readonly attempts?: readonly Attempt[];

  /** For this package: it is exported for `instanceof`. */
  constructor(message: string, fields: UffdErrorFields, options?: ErrorOptions) {
    super(message, options);
    if (typeof (fields as Partial<UffdErrorFields> | undefined)?.code !== 'string') {
      throw invalidType('fields', 'an object with a string "code"', fields);
    }
    this.code = fields.code;
    for (const [name, value] of Object.entries(fields)) {
      if (value !== undefined) Object.assign(this, { [name]: value as unknown });
    }
  }
}

/** The native layer's mark for an object closed while a call was on its way (ESHUTDOWN). */
const CLOSED_ERRNO = -108;
/** The native layer's mark for what is opened while the process ends (ECANCELED). */
const ENDING_ERRNO = -125;
/** EHWPOISON: native/core/lost_pages.h. */
const LOST_ERRNO = -133;
/** ETIMEDOUT: the watchdog found a fault loop that stood still. */
const STUCK_ERRNO = -110;

/** Of an ioctl that fills pages. */
const NOT_ONE_MAPPING =
  'The range must be one mapping that is registered with this userfaultfd: a part of it was mapped anew or unmapped since, or the kernel has it in parts (mprotect, mlock or madvise on some of it). Nothing was filled: fill each part by itself.';

const HINTS: Record<string, string> = {
  'ioctl(UFFDIO_REGISTER) EBUSY':
    'A registration or a tracker has a part of it. Close that first: a range has one owner.',
  'ioctl(UFFDIO_API) EPERM': 'The feature EVENT_FORK needs CAP_SYS_PTRACE.',
  'ioctl(UFFDIO_REGISTER) EPERM':
    'The memory shows a file that may not be written, and filling its pages would write there.',
  'ioctl(UFFDIO_REGISTER) EINVAL':
    'This memory cannot be registered in this mode; see `userfaultfd doctor` for the features of this kernel.',
  'ioctl(UFFDIO_UNREGISTER) ENOMEM':
    'The kernel would have to split a mapping and this process may have no more of them; the memory is registered and served as before, with none of it armed. Free some or raise "sysctl vm.max_map_count" and try again, or close the userfaultfd.',
  'ioctl(UFFDIO_WRITEPROTECT) ENOENT':
    'A part of the range was unmapped or mapped anew since it was registered in mode "write-protect".',
  'ioctl(UFFDIO_WAKE) ENOENT': 'Only memory registered with this userfaultfd can be woken.',
  'ioctl(UFFDIO_COPY) EEXIST': 'The page exists already; copy() fills missing pages only.',
  'ioctl(UFFDIO_COPY) ENOENT': NOT_ONE_MAPPING,
  'ioctl(UFFDIO_COPY) EFAULT': 'The source bytes could not be read without a fault of their own.',
  'ioctl(UFFDIO_CONTINUE) EFAULT':
    'The page is not in the page cache: fill it through another mapping first.',
  'ioctl(UFFDIO_CONTINUE) EEXIST': 'The page is mapped already.',
  'ioctl(UFFDIO_CONTINUE) ENOENT': NOT_ONE_MAPPING,
  'ioctl(UFFDIO_MOVE) EINVAL':
    'move() takes private anonymous memory on both sides, with the destination registered here: Region.allocate() or a plain WebAssembly.Memory.',
  'ioctl(UFFDIO_MOVE) EBUSY': 'A page of the source is pinned or shared (I/O under way, a forked child).',
  'ioctl(UFFDIO_MOVE) EEXIST': 'The destination page exists already; move() fills missing pages only.',
  'ioctl(UFFDIO_MOVE) EFAULT':
    'The source page is poisoned, or an armed one that does not exist yet: take it from elsewhere.',
  'ioctl(UFFDIO_MOVE) ENOENT': 'The source has a hole here; allow it with { allowHoles: true }.',
  'ioctl(UFFDIO_POISON) ENOENT': NOT_ONE_MAPPING,
  'ioctl(UFFDIO_POISON) EEXIST': 'The page exists already; only missing pages can be poisoned.',
  'ioctl(UFFDIO_ZEROPAGE) EEXIST': 'The page exists already; zeropage() fills missing pages only.',
  'ioctl(UFFDIO_ZEROPAGE) ENOENT': NOT_ONE_MAPPING,
  'ioctl(UFFDIO_ZEROPAGE) EINVAL': 'Huge pages of hugetlb have no zero page: copy() one.',
  'pread EBADF': 'The descriptor of a source must be open for reading.',
  'open(/proc/self/pagemap) EACCES':
    'After setuid() the file can no longer be opened: call capabilities() once before dropping privileges.',
  'ioctl(PAGEMAP_SCAN) ENOTTY': 'PAGEMAP_SCAN needs Linux 6.7.',
  'mmap ENOMEM':
    'There is not enough address space or memory for this size: allocate less, free some, or raise "ulimit -v".',
  'mmap(MAP_HUGETLB) ENOMEM':
    'Too few huge pages are free. Reserve them with "sysctl vm.nr_hugepages=COUNT" (as root; for other sizes than the default /sys/kernel/mm/hugepages/*/nr_hugepages), or use less.',
  'sigaction(SIGBUS) EMFILE':
    'At most 512 memories can be captured "in-thread" at a time: take fewer, wait for those under way, or use the resolver "loop".',
  'memfd_create EMFILE': 'Close some files or raise "ulimit -n": shared memory has a descriptor each.',
  'memfd_create(MFD_HUGETLB) EMFILE':
    'Close some files or raise "ulimit -n": shared memory has a descriptor each.',
  'memfd_create(MFD_HUGETLB) ENOSYS': 'This kernel has no hugetlb pages (CONFIG_HUGETLBFS).',
  'memfd_create(MFD_HUGETLB) ENODEV': 'This kernel has no hugetlb pages of this size.',
};

/** What ran out, by the errno that says so, whatever the call. */
const SHORTAGES: Record<string, string> = {
  EMFILE: 'This process has no file descriptor left: close some, or raise its limit ("ulimit -n").',
  ENFILE: 'This system has no file descriptor left: close some, or raise its limit ("sysctl fs.file-max").',
  ENOMEM:
    'Memory, address space or mappings ran out: free some, or raise the limit ("ulimit -v", "sysctl vm.max_map_count").',
};

/** What to do about a file, by errno. */
const FILE_HINTS: Record<string, string> = {
  ENOSPC: 'The file system is full; what was there before is as it was.',
  EDQUOT: 'The quota is used up; what was there before is as it was.',
  EROFS: 'The file system is read-only.',
  EACCES: 'A snapshot is written beside its target and then renamed, so the directory must be writable.',
};

/** The name of a negative errno: `-1` is `'EPERM'`. */
export function errnoName(errno: number): string {
  return getSystemErrorMap().get(errno)?.[0] ?? `E${-errno}`;
}

function errnoText(errno: number): string {
  return getSystemErrorMap().get(errno)?.[1] ?? 'unknown error';
}

/** @internal What to do when descriptors or memory ran out; undefined for any other code. */
export function shortageHint(code: string | undefined): string | undefined {
  return code === undefined ? undefined : SHORTAGES[code];
}

/** @internal What to do about this failure of a system call, where it is known. */
export function hintFor(failure: NativeFailure): string | undefined {
  const code = errnoName(failure.errno);
  return HINTS[`${failure.syscall} ${code}`] ?? shortageHint(code);
}

/** @internal */
export function systemError(failure: NativeFailure, hint?: string, attempts?: Attempt[]): UffdError {
  if (failure.errno === CLOSED_ERRNO) return closedError('userfaultfd');
  if (failure.errno === ENDING_ERRNO) return endingError();
  if (failure.errno === LOST_ERRNO) return pagesLost();
  const code = errnoName(failure.errno);
  const known = hint ?? hintFor(failure);
  const message = `${failure.syscall} failed: ${code} (${errnoText(failure.errno)})${known === undefined ? '' : `. ${known}`}`;
  return new UffdError(message, {
    code,
    errno: failure.errno,
    syscall: failure.syscall,
    hint: known,
    attempts,
  });
}

/** @internal */
export function rangeHasOwner(failure: NativeFailure): UffdError {
  const hint = HINTS['ioctl(UFFDIO_REGISTER) EBUSY'];
  return new UffdError(`This memory is registered already. ${hint}`, {
    code: 'ERR_UFFD_BUSY',
    errno: failure.errno,
    syscall: failure.syscall,
    hint,
  });
}

/** @internal */
export function loopFailed(errno: number): UffdError {
  const why =
    errno === STUCK_ERRNO
      ? 'its fault loop stood still while a thread waited'
      : `its fault loop ended with ${errnoName(errno)}`;
  return new UffdError(
    `This userfaultfd was released because ${why}; every waiting thread was woken and the memory is no longer registered.`,
    { code: 'ERR_UFFD_LOOP_FAILED', errno, hint: 'Open a new one and register again.' },
  );
}

/** @internal Nobody knows what a page held that a lazy restore could not load. */
export function pagesLost(): UffdError {
  return new UffdError(
    'Pages of the memory were lost: a lazy restore could not load them, and who touches one gets SIGBUS',
    {
      code: 'ERR_UFFD_LOST',
      hint: 'Restore all of the memory from a good file, snapshot or history entry, or region.discard() it.',
    },
  );
}

/** @internal `fault.resolve()` came too late, or twice. */
export function faultEnded(by: string, action: string | undefined): UffdError {
  const why: Record<string, string> = {
    loop: 'by the native loop, as registered with resolve "native"',
    handler: 'by an earlier resolve() or poison()',
    deadline: 'because its deadline passed',
    'own-thread': 'because the thread that consumes the events raised it, or one it waits for',
    'no-consumer': 'because nobody consumed the events',
    call: 'by another call that filled, unprotected or woke its page',
    removed: 'because its page was given back to the kernel or unmapped',
    closed: 'because its registration or userfaultfd was closed',
    forgotten: 'long ago',
  };
  return new UffdError(
    `This fault was ended already, ${why[by] ?? by}${action === undefined ? '' : ` (${action})`}`,
    { code: 'ERR_UFFD_FAULT_ENDED', hint: 'fault.endedBy and fault.action tell who ended it, and how.' },
  );
}

/** @internal */
export function sourceRegistered(): UffdError {
  return new UffdError(
    'The source bytes lie in memory whose missing pages a userfaultfd of this process serves: reading them could wait for that',
    { code: 'ERR_UFFD_SOURCE_REGISTERED', hint: 'Copy the bytes to other memory first.' },
  );
}

/** @internal Of a source and the memory it is for. */
export function sourceWouldWait(): UffdError {
  return new UffdError(
    'Memory whose missing pages a userfaultfd serves cannot be a source too: the loop would wait for itself',
    {
      code: 'ERR_UFFD_SOURCE_REGISTERED',
      hint: 'Unregister the one before the other is registered, or copy its bytes to other memory.',
    },
  );
}

/** @internal Of pages to move away: they would be filled again. */
export function sourceHasSource(): UffdError {
  return new UffdError(
    'The source of a move has a source itself, which would fill the pages again when they are gone',
    {
      code: 'ERR_UFFD_SOURCE_REGISTERED',
      hint: 'Unregister it first, or copy its bytes and discard its pages.',
    },
  );
}

/** @internal A method or an option whose feature was not negotiated. */
export function featureNeeded(what: string, features: readonly string[]): UffdError {
  const names = features.map((name) => `'${name}'`).join(' or ');
  return new UffdError(`${what} needs the feature ${features.join(' or ')}, which this userfaultfd has not`, {
    code: 'ERR_UFFD_FEATURE',
    hint: `Ask for it: Userfaultfd.open({ features: [${names}] }).`,
  });
}

/** @internal */
export function closedError(what: string): UffdError {
  return new UffdError(`This ${what} is closed`, { code: 'ERR_UFFD_CLOSED' });
}

function endingError(): UffdError {
  return new UffdError(
    'The process is ending: whoever waited for a fault was let go, and nothing new is opened',
    {
      code: 'ERR_UFFD_CLOSED',
      hint: 'Do it before the process exits; a Worker that serves faults ends with this error.',
    },
  );
}

/** @internal */
export function noMemory(): UffdError {
  return new UffdError('These pages are of files: there is no live memory to compare', {
    code: 'ERR_UFFD_NO_MEMORY',
    hint: 'Read the bytes from the files: file.read(offset, length).',
  });
}

/** @internal */
export function busyError(message: string): UffdError {
  return new UffdError(message, { code: 'ERR_UFFD_BUSY' });
}

/** @internal */
export function detachedError(): UffdError {
  return new UffdError(
    'The memory was detached (transferred or resized away): it is not this buffer’s any more',
    {
      code: 'ERR_UFFD_DETACHED',
    },
  );
}

/** @internal A snapshot file is not what was written. `why` goes on after "because". */
export function snapshotCorrupt(
  why: string,
  hint = 'Take it from a copy. Nothing of it was put into memory.',
): UffdError {
  return new UffdError(`The snapshot file is corrupt: ${why}`, { code: 'ERR_UFFD_SNAPSHOT_CORRUPT', hint });
}

/**
 * @internal A restore of a large file had begun, whose pages matched their digests: it changed, could not be
 * read any more, or the memory went.
 */
export function restoredInPart(cause: unknown): unknown {
  if (!(cause instanceof UffdError)) return cause;
  const { code, errno, syscall, path } = cause;
  const why =
    code === 'ERR_UFFD_SNAPSHOT_CORRUPT'
      ? 'The snapshot file changed while it was being restored'
      : cause.message.replace(/; nothing was written$/, '');
  return new UffdError(
    `${why}: the memory is partly written`,
    { code, errno, syscall, path, hint: 'Restore the memory once more, from a file that is whole.' },
    { cause },
  );
}

/** @internal */
export function snapshotVersion(version: number, known: number): UffdError {
  return new UffdError(
    `The snapshot file is of format version ${version}; this package knows up to ${known}`,
    { code: 'ERR_UFFD_SNAPSHOT_VERSION', hint: 'Use a newer version of this package.' },
  );
}

/** @internal */
export function parentMissing(digest: string, name: string): UffdError {
  const named = name === '' ? '' : `, then called "${printable(name)}",`;
  return new UffdError(
    `The snapshot file is a difference from another one${named} that was not found: ${digest}`,
    {
      code: 'ERR_UFFD_SNAPSHOT_PARENT_MISSING',
      hint: 'Put it into the same directory under that name, or give it: SnapshotFile.open(path, { parents: [path] }).',
    },
  );
}

/** @internal */
export function parentMismatch(why: string): UffdError {
  return new UffdError(`This is not the parent of the snapshot: ${why}`, {
    code: 'ERR_UFFD_SNAPSHOT_PARENT_MISMATCH',
    hint: '`userfaultfd snapshot info FILE` shows the digest of a file and that of its parent.',
  });
}

/** @internal */
export function snapshotPageSize(file: number, wanted: number): UffdError {
  return new UffdError(`The snapshot file has pages of ${file} bytes, not ${wanted}`, {
    code: 'ERR_UFFD_SNAPSHOT_PAGE_SIZE',
    hint: 'Use it on a machine with pages of that size.',
  });
}

/** @internal */
export function snapshotLength(memory: number, file: number, region: number): UffdError {
  return new UffdError(
    `Memory ${memory} has ${region} bytes, in the snapshot file it has ${file}; nothing was written`,
    { code: 'ERR_UFFD_SNAPSHOT_LENGTH', hint: 'Allocate memory of that size, or grow it, then restore.' },
  );
}

/** @internal The same error, which now says of which file. */
export function inFile(error: unknown, path: string): unknown {
  if (!(error instanceof UffdError) || error.path !== undefined) return error;
  const { code, errno, syscall, hint } = error;
  return new UffdError(
    `${printable(path)}: ${error.message}`,
    { code, errno, syscall, hint, path },
    { cause: error.cause },
  );
}

/** @internal What the file system refused. `doing`: "save a snapshot to". */
export function fileError(doing: string, path: string, cause: unknown): unknown {
  const { code, errno, syscall } = cause as NodeJS.ErrnoException;
  if (code === undefined || errno === undefined || syscall === undefined) return cause;
  const hint = FILE_HINTS[code] ?? shortageHint(code);
  const message = `Cannot ${doing} ${printable(path)}: ${code} (${errnoText(errno)})${hint === undefined ? '' : `. ${hint}`}`;
  return new UffdError(message, { code, errno, syscall, hint, path }, { cause });
}

/** @internal A path that must be a regular file is something else. */
export function notRegularFile(doing: string, path: string, isDirectory: boolean): UffdError {
  const [code, what] = isDirectory ? ['EISDIR', 'a directory'] : ['EINVAL', 'no regular file'];
  return new UffdError(`Cannot ${doing} ${printable(path)}: it is ${what}`, { code, path });
}

/** @internal */
export function abortError(signal: AbortSignal): Error {
  const error = new Error('The operation was aborted', { cause: signal.reason });
  // Not assigned: where the intrinsics are frozen, what Error.prototype has cannot be.
  return Object.defineProperties(error, {
    name: { value: 'AbortError', enumerable: true, configurable: true, writable: true },
    code: { value: 'ABORT_ERR', enumerable: true, configurable: true, writable: true },
  });
}

/** @internal */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal);
}

function coded<E extends Error>(error: E, code: string): E & { code: string } {
  const named = Object.assign(error, { code });
  Object.defineProperty(named, 'stack', {
    value: error.stack?.replace(/^(\w+)/, `$1 [${code}]`),
    writable: true,
    configurable: true,
  });
  return named;
}

/** @internal A caller's mistake: the wrong type. */
export function invalidType(name: string, expected: string, actual: unknown): TypeError {
  return coded(
    new TypeError(`The "${name}" argument must be ${expected}. Received ${describe(actual)}`),
    'ERR_INVALID_ARG_TYPE',
  );
}

/** @internal Objects that only this package makes. */
export function illegalConstructor(name: string): TypeError {
  return coded(new TypeError(`${name} cannot be constructed directly`), 'ERR_ILLEGAL_CONSTRUCTOR');
}

/** @internal A caller's mistake: the right type, a value that cannot be. */
export function invalidValue(name: string, why: string, actual: unknown): TypeError {
  return coded(
    new TypeError(`The "${name}" argument ${why}. Received ${describe(actual)}`),
    'ERR_INVALID_ARG_VALUE',
  );
}

/** @internal A caller's mistake: a number outside its range. */
export function outOfRange(name: string, range: string, actual: unknown): RangeError {
  return coded(
    new RangeError(
      `The value of "${name}" is out of range. It must be ${range}. Received ${describe(actual)}`,
    ),
    'ERR_OUT_OF_RANGE',
  );
}

function describe(value: unknown): string {
  if (typeof value === 'string') return value.length > 80 ? `'${value.slice(0, 80)}'…` : `'${value}'`;
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value === 'object' && value !== null) {
    return `an instance of ${(value as { constructor?: { name: string } }).constructor?.name ?? 'Object'}`;
  }
  return typeof value === 'bigint' ? `${value}n` : String(value);
}
