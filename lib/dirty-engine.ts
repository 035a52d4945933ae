// Which engine notices writes, and the word about it when it is not the one hoped for.

import { binding, type NativeOpenFailure } from './binding.js';
import { errnoName, invalidValue } from './errors.js';
import { openError } from './opening.js';
import { regionInternals, type Region } from './region.js';
import { checkOneOf } from './validate.js';

/**
 * How writes are noticed. `wp-async`: the kernel marks them (Linux 6.7), no thread, no privilege.
 * `wp-sync`: each first write to a page is a fault that a thread of this package ends (Linux 5.7), which
 * also tells who wrote; memory of our own and Wasm memory. `compare`: against a copy of the memory; works
 * everywhere, at the price of the memory's size.
 */
export type DirtyEngine = 'wp-async' | 'wp-sync' | 'compare';

const ENGINES: readonly DirtyEngine[] = ['wp-async', 'wp-sync', 'compare'];

/** DirtyEngine of native/core/dirty_engine.h. */
const NUMBERS = { 'wp-async': 0, 'wp-sync': 1, 'wp-sync, user mode': 2, compare: 3 } as const;

const SYNC_ADVICE =
  'The engine "wp-sync" needs privilege to see what system calls write. { userModeOnly: true } does without: ' +
  'those that write to the memory (fs.read) fail with EFAULT then.';

/** What may be gone at the next try is no reason to go on with less. */
const PASSING = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'EINTR']);

/** @internal What `wp-sync` would be used for. */
export interface SyncUse {
  regions: readonly Region[];
  /** Without privilege: system calls that write to the memory fail with EFAULT. */
  userModeOnly: boolean;
}

/** @internal The number of an engine in the native layer. */
export function engineNumber(engine: DirtyEngine, userModeOnly = false): number {
  return NUMBERS[engine === 'wp-sync' && userModeOnly ? 'wp-sync, user mode' : engine];
}

/**
 * @internal The first engine that works here, or the one asked for. Without `sync` it is not `wp-sync`.
 * @throws {UffdError} with `attempts` and `hint` when that one does not work.
 */
export function chooseEngine(name: string, wanted: unknown = 'auto', sync?: SyncUse): DirtyEngine {
  const engine = checkOneOf(name, wanted, ['auto', ...ENGINES]);
  if (engine === 'wp-sync' && sync !== undefined) sync.regions.forEach(checkSyncMemory);
  if (engine === 'compare') return engine;
  const userModeOnly = sync?.userModeOnly ?? false;
  if (engine !== 'auto') {
    const why = whyUnavailable(engine, userModeOnly);
    if (why !== undefined)
      throw openError(why, engine === 'wp-sync' && !userModeOnly ? SYNC_ADVICE : undefined);
    return engine;
  }
  const inOrder: DirtyEngine[] =
    sync !== undefined && sync.regions.every(hasOwnPages) ? ['wp-async', 'wp-sync'] : ['wp-async'];
  for (const each of inOrder) {
    const why = whyUnavailable(each, userModeOnly);
    if (why === undefined) return each;
    if (PASSING.has(errnoName(why.errno))) throw openError(why);
  }
  return 'compare';
}

/** @internal Says once in the life of the process that trackers and snapshots cost more here. */
export function warnOfFallback(): void {
  const why = whyUnavailable('wp-async');
  if (why === undefined || !binding().isFirst('UFFD_FALLBACK')) return;
  process.emitWarning(
    `Tracking by userfaultfd is not to be had here (${reasonOf(why)}). Memory is compared with a copy ` +
      'instead: each look costs time, and each tracker memory, by the size of what it tracks.',
    {
      code: 'UFFD_FALLBACK',
      detail: '`npx userfaultfd doctor` tells cause and remedy; { engine: "wp-async" } throws instead.',
    },
  );
}

function whyUnavailable(engine: DirtyEngine, userModeOnly = false): NativeOpenFailure | undefined {
  return binding().dirtyTracker.whyUnavailable(engineNumber(engine, userModeOnly));
}

function hasOwnPages(region: Region): boolean {
  return regionInternals(region).hasOwnPages;
}

/** Neighbours in the same pages, the JavaScript heap perhaps, would wait for the loop as well. */
function checkSyncMemory(region: Region): void {
  if (hasOwnPages(region)) return;
  const why =
    'must be allocated by this package (or a view of that) or a WebAssembly.Memory for the engine ' +
    '"wp-sync": other memory shares its pages with other data';
  throw invalidValue('memory', why, region);
}

function reasonOf(why: NativeOpenFailure): string {
  return why.missingFeatures === 0n ? errnoName(why.errno) : 'this kernel is older than Linux 6.7';
}
