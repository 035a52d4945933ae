// What a snapshot may be told.

import { invalidValue } from './errors.js';
import { checkInteger, checkOneOf, checkOptions, checkSignal } from './validate.js';

/**
 * `copy`: all bytes are copied before `take` returns. `copy-on-write`: the memory is write-protected,
 * which is the instant, and copied in the background, each page before it is first written.
 */
export type SnapshotMode = 'copy-on-write' | 'copy';

/**
 * Who has a page copied that is about to be written. `loop`: a native thread; needs the privilege to
 * serve faults inside system calls (CAP_SYS_PTRACE, vm.unprivileged_userfaultfd or the device).
 * `in-thread`: the writing thread itself (UFFD_FEATURE_SIGBUS), fast and without privilege, but a system
 * call that writes into a page not yet captured (`fs.read`) fails with EFAULT.
 */
export type SnapshotResolver = 'loop' | 'in-thread';

export interface SnapshotOptions {
  /** `'auto'` (default): copy-on-write with the resolver `loop` where it works here, else copy. */
  mode?: 'auto' | SnapshotMode;
  /** With mode `copy-on-write`. Default `loop`. */
  resolver?: SnapshotResolver;
  /** Bytes of pages it may keep; more fail the snapshot, never the program. Pages of zeros are free. */
  maxBytes?: number;
  /** Bytes that the background copies a second; pages that are written come on top. Default: no limit. */
  bytesPerSecond?: number;
  /** Ends the capture; `ready` then rejects with `AbortError` and the snapshot is closed. */
  signal?: AbortSignal;
}

/** @internal */
export interface CheckedSnapshotOptions {
  mode: 'auto' | SnapshotMode;
  resolver: SnapshotResolver;
  maxBytes: number;
  /** 0: no limit. */
  bytesPerSecond: number;
  signal: AbortSignal | undefined;
}

/** @internal */
export function checkSnapshotOptions(options: unknown): CheckedSnapshotOptions {
  const {
    mode = 'auto',
    resolver,
    maxBytes = Number.MAX_SAFE_INTEGER,
    bytesPerSecond,
    signal,
  } = checkOptions('options', options, ['mode', 'resolver', 'maxBytes', 'bytesPerSecond', 'signal']);
  const checkedMode = checkOneOf('options.mode', mode, ['auto', 'copy-on-write', 'copy']);
  if (resolver !== undefined && checkedMode !== 'copy-on-write') {
    throw invalidValue('options.resolver', "needs the mode 'copy-on-write'", resolver);
  }
  checkInteger('options.maxBytes', maxBytes, 0, Number.MAX_SAFE_INTEGER);
  if (bytesPerSecond !== undefined) {
    checkInteger('options.bytesPerSecond', bytesPerSecond, 1, Number.MAX_SAFE_INTEGER);
  }
  return {
    mode: checkedMode,
    resolver: checkOneOf('options.resolver', resolver ?? 'loop', ['loop', 'in-thread']),
    maxBytes,
    bytesPerSecond: bytesPerSecond ?? 0,
    signal: checkSignal(signal),
  };
}
