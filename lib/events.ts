// Events of one userfaultfd, decoded from the native queue.

import type { NativeUserfaultfd } from './binding.js';
import { ChildUserfaultfd } from './child-userfaultfd.js';
import { PageFault, type FaultOwner } from './page-fault.js';
import type { Region } from './region.js';
import { CONSTRUCT } from './validate.js';

/** The process forked while EVENT_FORK was on, and the child got registered memory. */
export interface ForkEvent {
  type: 'fork';
  /** The child's userfaultfd. It is closed already when nobody read events then, or 64 others are open. */
  child: ChildUserfaultfd;
}

/** mremap(2) moved registered memory away (EVENT_REMAP). Bytes. */
export interface RemapEvent {
  type: 'remap';
  region: Region | undefined;
  offset: number;
  length: number;
}

/** madvise(2) gave pages back (EVENT_REMOVE). Bytes. */
export interface RemoveEvent {
  type: 'remove';
  region: Region | undefined;
  offset: number;
  length: number;
}

/** munmap(2) took memory away (EVENT_UNMAP). Bytes; the range may reach beyond the region. */
export interface UnmapEvent {
  type: 'unmap';
  region: Region | undefined;
  offset: number;
  length: number;
}

export type UffdEvent = PageFault | ForkEvent | RemapEvent | RemoveEvent | UnmapEvent;

// The order of EventType in native/core/fault.h. The fields are those native/userfaultfd_wrap.cc writes:
// type, registration, offset, reason, write, thread, length, id, ending, child.
const TYPES = ['pagefault', 'fork', 'remap', 'remove', 'unmap'] as const;
const FIELDS = 10;

/** What is drained is decoded at once, so all readers of this thread share one. */
let scratch = new Float64Array(0);

/** What a reader asks of its userfaultfd. */
interface EventOwner extends FaultOwner {
  regionOf(registration: number): Region | undefined;
  /** The native queue was read to its end: no event names an unregistered region any more. */
  drained(): void;
  /** Whether it has the feature POISON. */
  readonly canPoison: boolean;
}

/**
 * Decodes what the native queue holds, a batch at a time. It belongs to the userfaultfd, not to an
 * iterator: what one iterator left behind is the next one's.
 */
export class EventReader {
  readonly #native: NativeUserfaultfd;
  readonly #owner: EventOwner;
  /** Those that were taken are let go of at once. */
  #events: (UffdEvent | undefined)[] = [];
  /** Of the fork events among them. */
  readonly #children = new WeakMap<UffdEvent, number>();
  #next = 0;
  /** Nothing waits in the native queue, and this is woken when something does, or when it is at its end. */
  #quiet = false;
  #isWoken = true;
  #atEnd = false;
  /** Events taken from the native queue at a time. */
  batch = 1;

  constructor(native: NativeUserfaultfd, owner: EventOwner) {
    this.#native = native;
    this.#owner = owner;
  }

  /** Asked when `take()` has nothing: nothing will come either. */
  get atEnd(): boolean {
    return this.#atEnd;
  }

  /** There may be something: an event, or the end. */
  wake(): void {
    this.#quiet = false;
  }

  /** Whether `wake()` is sure to come: nobody calls it when the userfaultfd is closed or the process ends first. */
  set isWoken(sure: boolean) {
    this.#quiet = false;
    this.#isWoken = sure;
  }

  /** The next event, or undefined when nothing waits. */
  take(): UffdEvent | undefined {
    if (this.#next === this.#events.length && !this.#quiet) this.#read();
    const event = this.#events[this.#next];
    if (event === undefined) return undefined;
    this.#events[this.#next++] = undefined;
    // Of what nobody takes, the child's userfaultfd is closed when the iterator ends.
    if (event.type === 'fork') this.#native.takeChild(this.#children.get(event)!);
    return event;
  }

  #read(): void {
    this.#next = 0;
    this.#events = [];
    let drained = false;
    while (this.#events.length === 0 && !drained) {
      const size = this.batch * FIELDS;
      if (scratch.length < size) scratch = new Float64Array(size);
      const raw = scratch.length === size ? scratch : scratch.subarray(0, size);
      const told = this.#native.drain(raw);
      this.#atEnd = told < 0;
      const count = this.#atEnd ? -1 - told : told;
      for (let i = 0; i < count; i++) {
        const event = this.#decode(raw, i * FIELDS);
        if (event !== undefined) this.#events.push(event);
      }
      drained = count < this.batch;
    }
    this.#quiet = drained && this.#isWoken;
    if (drained) this.#owner.drained();
  }

  #fork(id: number): ForkEvent {
    const child = new ChildUserfaultfd(CONSTRUCT, this.#native, id, this.#owner.canPoison);
    const event: ForkEvent = { type: 'fork', child };
    this.#children.set(event, id);
    return event;
  }

  #decode(raw: Float64Array, at: number): UffdEvent | undefined {
    const type = TYPES[raw[at]!];
    if (type === undefined) return undefined;
    if (type === 'fork') return this.#fork(raw[at + 9]!);
    const region = this.#owner.regionOf(raw[at + 1]!);
    const offset = raw[at + 2]!;
    if (type !== 'pagefault') return { type, region, offset, length: raw[at + 6]! };
    if (region === undefined) return undefined;
    return new PageFault(CONSTRUCT, this.#owner, {
      region,
      offset,
      reason: raw[at + 3]!,
      write: raw[at + 4] === 1,
      threadId: raw[at + 5]!,
      id: raw[at + 7]!,
      ending: raw[at + 8]!,
    });
  }
}
