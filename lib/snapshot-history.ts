// Many states of live memory, and the way to each of them.

import { inspect, types } from 'node:util';
import { binding, isFailure, type NativeFailure, type NativeSnapshotHistory } from './binding.js';
import { cutError, othersCanWrite } from './consistent-cut.js';
import { chooseEngine, engineNumber, warnOfFallback, type DirtyEngine } from './dirty-engine.js';
import { DirtyPages } from './dirty-pages.js';
import { busyError, closedError, errnoName, invalidType, invalidValue, UffdError } from './errors.js';
import { ListedPages } from './page-set.js';
import { regionInternals, type Region, type RegionUser, type Trackable } from './region.js';
import type { RestoreStats } from './snapshot.js';
import { toRegions } from './trackable.js';
import { UndoTree, type Step } from './undo-tree.js';
import { checkByteRange, checkFlag, checkInteger, checkOptions, CONSTRUCT } from './validate.js';

export interface SnapshotHistoryOptions<State = unknown> {
  /** More drop the oldest. Default: no limit. */
  maxEntries?: number;
  /** The same for the bytes of all entries together. */
  maxBytes?: number;
  /** What to keep with an entry that is not in the memory. Called first; when it throws, nothing is taken. */
  save?: () => State;
  /** Puts that back. Called before the memory is; when it throws, the memory stays as it is. */
  restore?: (state: State) => void;
  /** As of a `DirtyTracker`; memory that other threads can write cannot be compared. */
  engine?: 'auto' | DirtyEngine;
  /**
   * Entries are of one instant also when another process writes into this one meanwhile (process_vm_writev(2),
   * ptrace(2)), which costs a second scan. Default: no; such a write may then be in an entry in part.
   */
  outsideWriters?: boolean;
}

export interface HistoryEntry {
  id: number;
  label: string | undefined;
  /** The entry it was made of: where `undo()` goes from here. */
  parent: number | undefined;
  /** Size of each memory at its instant. */
  byteLengths: readonly number[];
  /** By so many bytes it made the history larger when it was taken. */
  addedBytes: number;
  /** So many bytes deleting it would free now: what no other entry has. */
  bytes: number;
}

interface Kept extends Step {
  label: string | undefined;
  byteLengths: readonly number[];
  state: unknown;
}

/**
 * Keeps many snapshots of one or several memories, each at the price of the pages written since the
 * one before, and goes back to any of them at the price of the pages that differ.
 */
export class SnapshotHistory<State = unknown> implements Disposable {
  readonly engine: DirtyEngine;
  readonly #native: NativeSnapshotHistory;
  readonly #regions: readonly Region[];
  readonly #options: SnapshotHistoryOptions<State>;
  #entries = new UndoTree<Kept>();
  readonly #user: RegionUser = { regionClosing: () => this.close() };
  readonly #leaveRegions: readonly (() => void)[];
  #inHook = false;
  #closed = false;

  /**
   * Starts tracking; the first entry is what `take()` takes.
   * @throws {UffdError} with `attempts` and `hint` when the engine asked for does not work here.
   */
  constructor(memory: Trackable | readonly Trackable[], options: SnapshotHistoryOptions<State> = {}) {
    this.#options = checkHistoryOptions(options);
    this.#regions = toRegions(memory);
    const shared = othersCanWrite(this.#regions);
    const wanted = this.#options.engine ?? 'auto';
    if (shared && wanted === 'compare') {
      throw invalidValue(
        'options.engine',
        'cannot be compare for memory that other threads can write',
        wanted,
      );
    }
    this.engine = chooseEngine('options.engine', shared && wanted === 'auto' ? 'wp-async' : wanted);
    this.#native = new (binding().SnapshotHistory)();
    const failure = this.#native.track(
      this.#regions.map((region) => ({
        view: region.bytes,
        pageSize: region.pageSize,
        mapping: regionInternals(region).liesIn,
      })),
      this.#regions.map((region) => regionInternals(region).keepAlive),
      engineNumber(this.engine),
      this.#options.outsideWriters ?? false,
    );
    if (failure !== undefined) throw cutError(failure, 'history');
    if (this.engine === 'compare' && wanted !== 'compare') warnOfFallback();
    this.#leaveRegions = this.#regions.map((region) => regionInternals(region).attach(this.#user));
  }

  /**
   * Adds an entry and returns its id; this is its instant. Drops the oldest ones beyond the limits.
   * @throws {UffdError} `ERR_UFFD_SNAPSHOT_TORN` when other threads wrote all the time;
   * `ERR_UFFD_HISTORY_FULL` when this entry by itself is larger than `maxBytes`. What was written is
   * then part of the next entry, and no entry was dropped.
   */
  take(label?: string): number {
    this.#checkReady();
    if (label !== undefined && typeof label !== 'string') throw invalidType('label', 'of type string', label);
    const { save, maxBytes } = this.#options;
    const state = save === undefined ? undefined : this.#callHook(save);
    const views = this.#views();
    const id = this.#native.take(views, maxBytes);
    if (isFailure(id)) throw historyError(id, maxBytes);
    const byteLengths = views.map((view) => view.byteLength);
    this.#entries.add({ id, label, byteLengths, state });
    this.#dropOldest();
    this.#native.keepUp();
    return id;
  }

  /**
   * Puts the memories back as they were at an entry, whatever it is; other entries stay. Memory that
   * grew since keeps its size; what came with growth reads as zero.
   * @throws {UffdError} `ERR_UFFD_NO_ENTRY`; `ERR_UFFD_SHRUNK` when a memory is smaller now. Nothing was
   * written then.
   */
  restore(id: number): RestoreStats {
    this.#checkReady();
    const entry = this.#entry('id', id);
    const stats = this.#goTo(entry);
    this.#entries.moveTo(entry);
    return stats;
  }

  /**
   * Goes to the entry before the current one, which is the one taken or restored last. What was written
   * since that is lost. Undefined when there is none before it; nothing was done then.
   */
  undo(): RestoreStats | undefined {
    this.#checkReady();
    const entry = this.#entries.before;
    if (entry === undefined) return undefined;
    const stats = this.#goTo(entry);
    this.#entries.undoTo(entry);
    return stats;
  }

  /** Goes forward again, after `undo()` along the same way. Undefined when there is nothing to redo. */
  redo(): RestoreStats | undefined {
    this.#checkReady();
    const entry = this.#entries.after;
    if (entry === undefined) return undefined;
    const stats = this.#goTo(entry);
    this.#entries.moveTo(entry);
    return stats;
  }

  /**
   * The pages whose bytes differ between two entries, or between one and the memory now. Bytes that only
   * the larger one has count as differing from zero.
   */
  diff(a: number, b?: number): DirtyPages {
    this.#checkReady();
    const from = this.#entry('a', a);
    const to = b === undefined ? undefined : this.#entry('b', b);
    const views = this.#views();
    const sets = to === undefined ? this.#native.diffLive(from.id, views) : this.#native.diff(from.id, to.id);
    if (isFailure(sets)) throw historyError(sets);
    const sizes = to?.byteLengths ?? views.map((view) => view.byteLength);
    return new DirtyPages(
      CONSTRUCT,
      sets.map((ranges, i) => {
        const size = Math.max(from.byteLengths[i]!, sizes[i]!);
        return ListedPages.of(this.#regions[i]!, views[i]!, ranges, size);
      }),
    );
  }

  /** A copy of the bytes as they were. `offset` and `length` are bytes; `memory` is which of several. */
  read(id: number, offset = 0, length?: number, memory = 0): Uint8Array {
    this.#checkReady();
    const { byteLengths } = this.#entry('id', id);
    checkInteger('memory', memory, 0, this.#regions.length - 1);
    const held = byteLengths[memory]!;
    // A Wasm memory without pages: all of its bytes are none.
    if (held === 0 && offset === 0 && length === undefined) return new Uint8Array(0);
    const range = checkByteRange(length === undefined ? { offset } : { offset, length }, held);
    const bytes = new Uint8Array(range.length);
    const failure = this.#native.read(id, memory, range.offset, bytes);
    if (failure !== undefined) throw historyError(failure);
    return bytes;
  }

  /** Forgets an entry; the memory stays as it is, and what other entries need stays with them. */
  delete(id: number): void {
    this.#checkReady();
    this.#drop(this.#entry('id', id));
    this.#native.keepUp();
  }

  /** Oldest first. */
  get entries(): HistoryEntry[] {
    if (this.#closed) throw closedError('history');
    return Array.from(this.#entries.values(), ({ id, label, parent, byteLengths }) => ({
      id,
      label,
      parent: parent?.id,
      byteLengths,
      addedBytes: this.#native.addedBytes(id) as number,
      bytes: this.#native.ownBytes(id) as number,
    }));
  }

  /** How many entries there are. */
  get size(): number {
    return this.#entries.size;
  }

  /** Of all entries: their pages, each once, and the tables that find them. */
  get bytes(): number {
    return this.#closed ? 0 : (this.#native.bytes() as number);
  }

  /** The entry taken or restored last; undefined before the first and when that one was dropped. */
  get current(): number | undefined {
    return this.#entries.current?.id;
  }

  get canUndo(): boolean {
    return this.#entries.before !== undefined;
  }

  get canRedo(): boolean {
    return this.#entries.after !== undefined;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Frees the entries and stops tracking. Closing twice is fine. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#native.close();
    // With what the hooks gave to keep.
    this.#entries = new UndoTree<Kept>();
    for (const leave of this.#leaveRegions) leave();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    if (!(#closed in this)) return 'SnapshotHistory {}';
    if (this.#closed) return 'SnapshotHistory { closed }';
    const at = this.current === undefined ? '' : `, at ${this.current}`;
    return `SnapshotHistory { ${this.size} entries${at}, ${this.bytes} bytes }`;
  }

  #checkReady(): void {
    if (this.#closed) throw closedError('history');
    if (this.#inHook) throw busyError('This history is calling a hook; use it when the hook has returned');
  }

  #views(): Uint8Array[] {
    if (this.#closed) throw closedError('history');
    return this.#regions.map((region) => region.bytes);
  }

  #entry(name: string, id: unknown): Kept {
    checkInteger(name, id, 1, Number.MAX_SAFE_INTEGER);
    const entry = this.#entries.get(id);
    if (entry !== undefined) return entry;
    throw new UffdError(
      `This history has no entry ${id}: it was deleted, dropped by a limit, or never there`,
      {
        code: 'ERR_UFFD_NO_ENTRY',
        hint: 'history.entries lists those there are; maxEntries and maxBytes drop the oldest.',
      },
    );
  }

  #callHook<T>(hook: () => T): T {
    this.#inHook = true;
    try {
      return hook();
    } finally {
      this.#inHook = false;
    }
  }

  #goTo(entry: Kept): RestoreStats {
    const refused = this.#native.checkRestore(entry.id, this.#views());
    if (refused !== undefined) throw historyError(refused);
    // Before the memory, so that what the hook writes there does not stay.
    const { restore } = this.#options;
    if (restore !== undefined) this.#callHook(() => restore(entry.state as State));
    const stats = this.#native.restore(entry.id, this.#views());
    if (isFailure(stats)) throw historyError(stats);
    return stats;
  }

  #dropOldest(): void {
    const { maxEntries = Infinity, maxBytes } = this.#options;
    // To ask for the bytes is to wait until what was taken is counted, and what was dropped is given back.
    const isTooLarge = (): boolean => maxBytes !== undefined && this.bytes > maxBytes;
    while (this.#entries.size > 1 && (this.#entries.size > maxEntries || isTooLarge())) {
      this.#drop(this.#entries.oldest!);
    }
  }

  #drop(entry: Kept): void {
    this.#native.drop(entry.id);
    this.#entries.delete(entry);
  }
}

function checkHistoryOptions<State>(options: SnapshotHistoryOptions<State>): SnapshotHistoryOptions<State> {
  const checked = checkOptions('options', options, [
    'maxEntries',
    'maxBytes',
    'save',
    'restore',
    'engine',
    'outsideWriters',
  ]);
  for (const name of ['maxEntries', 'maxBytes']) {
    if (checked[name] !== undefined) {
      checkInteger(`options.${name}`, checked[name], 1, Number.MAX_SAFE_INTEGER);
    }
  }
  checkFlag('options.outsideWriters', checked.outsideWriters, false);
  for (const name of ['save', 'restore']) {
    const hook = checked[name];
    if (hook === undefined) continue;
    if (typeof hook !== 'function') throw invalidType(`options.${name}`, 'of type function', hook);
    if (types.isAsyncFunction(hook)) {
      throw invalidValue(`options.${name}`, 'must not be asynchronous: nothing may run in between', hook);
    }
  }
  return checked;
}

function historyError(failure: NativeFailure, maxBytes?: number): UffdError {
  if (failure.syscall === 'snapshot' && errnoName(failure.errno) === 'ENOSPC') {
    return new UffdError(`One entry of this memory is larger than maxBytes, ${maxBytes}; none was dropped`, {
      code: 'ERR_UFFD_HISTORY_FULL',
      hint: 'Allow more bytes: the first entry has all pages that are not zero.',
    });
  }
  return cutError(failure, 'history');
}
