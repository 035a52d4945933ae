// One memory of the watched program. It is held weakly: watching keeps no memory alive.

import { binding, isFailure, type NativeDirtyTracker } from '../binding.js';
import { engineNumber, type DirtyEngine } from '../dirty-engine.js';
import { systemError, UffdError } from '../errors.js';
import { extentOf, type MemorySource } from '../memory-source.js';
import { PackedPages } from '../packed-pages.js';
import type { SeenMemory, WatchedKind } from './records.js';

export class WatchedMemory {
  readonly #id: number;
  readonly #kind: WatchedKind;
  readonly #native: NativeDirtyTracker;
  readonly #engine: DirtyEngine;
  /** As last reported. */
  #byteLength = -1;

  /** Everything written from here on is seen. */
  constructor(id: number, kind: WatchedKind, memory: object, engine: DirtyEngine) {
    this.#id = id;
    this.#kind = kind;
    this.#engine = engine;
    const { dirtyTracker, pageSize } = binding();
    const native = dirtyTracker.open(viewOf(memory), memory, engineNumber(engine), pageSize, undefined);
    if (isFailure(native)) throw systemError(native);
    dirtyTracker.holdWeakly(native);
    this.#native = native;
  }

  get isFreed(): boolean {
    return this.#memory === undefined;
  }

  isIn(buffer: ArrayBufferLike): boolean {
    const memory = this.#memory;
    return memory !== undefined && extentOf(memory as MemorySource)[0] === buffer;
  }

  /** What was written since the last look; undefined when there is nothing to tell. */
  look(): SeenMemory | undefined {
    const memory = this.#memory;
    if (memory === undefined) return this.gone('freed');
    let view: Uint8Array;
    try {
      view = viewOf(memory);
    } catch (error) {
      if (error instanceof UffdError && error.code === 'ERR_UFFD_DETACHED') return this.gone('detached');
      throw error;
    }
    const packed = binding().dirtyTracker.collect(this.#native, view);
    if (isFailure(packed)) throw systemError(packed);
    const { pageSize } = binding();
    const { lead, ranges } = new PackedPages(packed, view.byteLength, pageSize);
    if (ranges.length === 0 && view.byteLength === this.#byteLength) return undefined;
    this.#byteLength = view.byteLength;
    const shared = lead !== 0 || view.byteLength % pageSize !== 0;
    return {
      ...this.#described('live', view.byteLength),
      lead,
      exact: this.#engine !== 'compare' && !shared,
      ranges: Array.from(ranges),
      ...(this.#engine === 'wp-sync' ? { threadIds: this.#threadsThatWrote(view) } : {}),
    };
  }

  close(): void {
    binding().dirtyTracker.close(this.#native);
  }

  /** The last that is told of it. */
  gone(state: Exclude<SeenMemory['state'], 'live'>): SeenMemory {
    return { ...this.#described(state, 0), lead: 0, exact: true, ranges: [] };
  }

  /** Undefined when it was collected. */
  get #memory(): object | undefined {
    return binding().dirtyTracker.memory(this.#native);
  }

  #threadsThatWrote(view: Uint8Array): number[] {
    const known = binding().dirtyTracker.takeWrites(this.#native, view);
    if (isFailure(known)) throw systemError(known);
    return [...new Set(known.writes.filter((_, i) => i % 2 === 1))].sort((a, b) => a - b);
  }

  #described(
    state: SeenMemory['state'],
    byteLength: number,
  ): Pick<SeenMemory, 'id' | 'kind' | 'state' | 'byteLength' | 'pageSize'> {
    return { id: this.#id, kind: this.#kind, state, byteLength, pageSize: binding().pageSize };
  }
}

function viewOf(memory: object): Uint8Array {
  const [buffer, offset, length] = extentOf(memory as MemorySource);
  return new Uint8Array(buffer, offset, length);
}
