// Which engine notices writes, and the word about it when it is not the one hoped for.

import { binding, type NativeOpenFailure } from './binding.js';
import { errnoName } from './errors.js';
import { openError } from './opening.js';
import { checkOneOf } from './validate.js';

/**
 * How writes are noticed. `wp-async`: the kernel marks them (Linux 6.7), no thread, no privilege.
 * `compare`: against a copy of the memory; works everywhere, at the price of the memory's size.
 */
export type DirtyEngine = 'wp-async' | 'compare';

/** In the order of DirtyEngine in native/core/dirty_engine.h. */
const ENGINES: readonly DirtyEngine[] = ['wp-async', 'compare'];

/** What may be gone at the next try is no reason to go on with less. */
const PASSING = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'EINTR']);

/** @internal The number of an engine in the native layer. */
export function engineNumber(engine: DirtyEngine): number {
  return ENGINES.indexOf(engine);
}

/**
 * @internal The first engine that works here, or the one asked for.
 * @throws {UffdError} with `attempts` and `hint` when that one does not work.
 */
export function chooseEngine(name: string, wanted: unknown = 'auto'): DirtyEngine {
  const engine = checkOneOf(name, wanted, ['auto', ...ENGINES]);
  if (engine === 'compare') return engine;
  const why = binding().DirtyTracker.whyUnavailable();
  if (why === undefined) return 'wp-async';
  if (engine === 'wp-async' || PASSING.has(errnoName(why.errno))) throw openError(why);
  return 'compare';
}

/** @internal Says once in the life of the process that trackers and snapshots cost more here. */
export function warnOfFallback(): void {
  const why = binding().DirtyTracker.whyUnavailable();
  if (why === undefined || !binding().DirtyTracker.isFirstFallback()) return;
  process.emitWarning(
    `Tracking by userfaultfd is not to be had here (${reasonOf(why)}). Memory is compared with a copy ` +
      'instead: each look costs time, and each tracker memory, by the size of what it tracks.',
    {
      code: 'UFFD_FALLBACK',
      detail: '`npx userfaultfd doctor` tells cause and remedy; { engine: "wp-async" } throws instead.',
    },
  );
}

function reasonOf(why: NativeOpenFailure): string {
  return why.missingFeatures === 0n ? errnoName(why.errno) : 'this kernel is older than Linux 6.7';
}
