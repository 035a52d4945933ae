// The ways of opening a userfaultfd: what may be asked for, and what went wrong.

import type { NativeAttempt, NativeOpenFailure } from './binding.js';
import {
  errnoName,
  hintFor,
  invalidValue,
  shortageHint,
  systemError,
  UffdError,
  type AccessName,
  type Attempt,
} from './errors.js';
import { DEFAULT_OPTIONAL_FEATURES, featureBits, featureNames, type Feature } from './features.js';
import { checkOptions } from './validate.js';

/** In the order of Access in native/core/userfaultfd.h. */
const ACCESS: readonly AccessName[] = ['device', 'syscall', 'user-mode-only'];
/** In the order of UserMode there. */
const USER_MODES: readonly (boolean | 'auto')[] = ['auto', true, false];

export interface OpenOptions {
  /** Must be there, or `open` throws. Default: none. */
  features?: readonly Feature[];
  /** Used when the kernel has them. Default: WP_UNPOPULATED, THREAD_ID, EXACT_ADDRESS and the kinds of memory. */
  optionalFeatures?: readonly Feature[];
  /**
   * `true`: faults raised inside system calls fail with EFAULT, no privilege needed. `false`: such
   * faults must be served, or `open` throws. `'auto'` (default): served where this user may.
   */
  userModeOnly?: boolean | 'auto';
}

/** @internal */
export function checkOpenOptions(options: unknown): { required: bigint; optional: bigint; userMode: number } {
  const {
    features,
    optionalFeatures = DEFAULT_OPTIONAL_FEATURES,
    userModeOnly = 'auto',
  } = checkOptions('options', options, ['features', 'optionalFeatures', 'userModeOnly']);
  const userMode = USER_MODES.indexOf(userModeOnly as boolean | 'auto');
  if (userMode < 0) throw invalidValue('options.userModeOnly', "must be true, false or 'auto'", userModeOnly);
  return {
    required: featureBits('options.features', features),
    optional: featureBits('options.optionalFeatures', optionalFeatures),
    userMode,
  };
}

/** @internal */
export function accessName(access: number): AccessName {
  return ACCESS[access]!;
}

/** @internal `advice`: what else the caller could do. */
export function openError(failure: NativeOpenFailure, advice?: string): UffdError {
  const attempts = attemptsOf(failure.attempts);
  if (failure.missingFeatures !== 0n) {
    const names = featureNames(failure.missingFeatures).join(', ');
    return new UffdError(`This kernel has no ${names}`, {
      code: 'ERR_UFFD_FEATURE',
      errno: failure.errno,
      syscall: failure.syscall,
      hint: 'See `userfaultfd doctor` for what it has; ask for it in optionalFeatures if you can do without.',
      attempts,
    });
  }
  const tried = `Tried ${attempts.map((each) => `${each.access}: ${each.code ?? 'ok'}`).join(', ')}.`;
  // Where something ran out the doctor, another process, finds nothing.
  const shortage = attempts.map((each) => shortageHint(each.code)).find((hint) => hint !== undefined);
  if (shortage !== undefined) return systemError(failure, `${shortage} ${tried}`, attempts);
  const known = advice ?? hintFor(failure);
  return systemError(
    failure,
    `${known === undefined ? '' : `${known} `}${tried} \`userfaultfd doctor\` tells cause and remedy.`,
    attempts,
  );
}

/** @internal */
export function attemptsOf(attempts: NativeAttempt[]): Attempt[] {
  return attempts.map(({ access, errno }) => ({
    access: accessName(access),
    errno,
    code: errno === 0 ? undefined : errnoName(errno),
  }));
}
