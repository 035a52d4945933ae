// What the dirty-page and snapshot tests share: memories of every kind, a seeded generator, page sets
// as plain numbers, and a thread that writes when it is told to.

import assert from 'node:assert/strict';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { binding } from '../../lib/binding.js';
import { Region, type DirtyPages, type Trackable } from '../../lib/index.js';

export const PAGE = binding().pageSize;
export const WASM_PAGE = 65_536;
/** Pages of the kernel in one page of WebAssembly. */
export const WASM = WASM_PAGE / PAGE;

/** mulberry32: small, and the same sequence for the same seed everywhere. */
export function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** The pages of a set by number, page 0 being the one that holds the first byte. Each as often as it occurs. */
export function pagesOf(dirty: DirtyPages, bytes?: Uint8Array): number[] {
  const lead = bytes === undefined ? 0 : binding().addressInPage(bytes);
  const pages: number[] = [];
  for (const { offset, length } of dirty) {
    assert.ok(length > 0, 'a range has bytes');
    const last = Math.floor((lead + offset + length - 1) / PAGE);
    for (let page = Math.floor((lead + offset) / PAGE); page <= last; page++) pages.push(page);
  }
  return pages;
}

/** `count` pages from `first` on. */
export function pageRun(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

export function sorted(pages: Iterable<number>): number[] {
  return [...new Set(pages)].sort((a, b) => a - b);
}

export interface Kind {
  name: string;
  /** Whether each page belongs to this memory alone. */
  exact: boolean;
  /** Memory of `pages` pages (a multiple of WASM) and perhaps a part of one more at each end. */
  make(pages: number): { memory: Trackable; bytes: Uint8Array };
}

// V8's buffers may begin at a page by chance; with a length that is not whole pages they never have each page alone.
const PART = 776;

export const KINDS: readonly Kind[] = [
  {
    name: 'Region.allocate',
    exact: true,
    make(pages) {
      const memory = Region.allocate({ bytes: pages * PAGE });
      return { memory, bytes: memory.bytes };
    },
  },
  {
    name: 'plain Wasm memory',
    exact: true,
    make(pages) {
      const memory = new WebAssembly.Memory({ initial: pages / WASM });
      return { memory, bytes: new Uint8Array(memory.buffer) };
    },
  },
  {
    name: 'shared Wasm memory',
    exact: true,
    make(pages) {
      const memory = new WebAssembly.Memory({ initial: pages / WASM, maximum: pages / WASM, shared: true });
      return { memory, bytes: new Uint8Array(memory.buffer) };
    },
  },
  {
    name: 'ArrayBuffer',
    exact: false,
    make(pages) {
      const memory = new ArrayBuffer(pages * PAGE + PART);
      return { memory, bytes: new Uint8Array(memory) };
    },
  },
  {
    name: 'SharedArrayBuffer',
    exact: false,
    make(pages) {
      const memory = new SharedArrayBuffer(pages * PAGE + PART);
      return { memory, bytes: new Uint8Array(memory) };
    },
  },
  {
    name: 'Buffer view',
    exact: false,
    make(pages) {
      const memory = Buffer.alloc((pages + 4) * PAGE).subarray(
        PAGE + 1000,
        PAGE + 1000 + pages * PAGE + PART,
      );
      return { memory, bytes: memory };
    },
  },
  {
    name: 'Float64Array view',
    exact: false,
    make(pages) {
      const memory = new Float64Array(new ArrayBuffer((pages + 2) * PAGE), 4800, (pages * PAGE + PART) / 8);
      return { memory, bytes: new Uint8Array(memory.buffer, memory.byteOffset, memory.byteLength) };
    },
  },
];

/** The number of pages the bytes lie in. */
export function pageCountOf(bytes: Uint8Array): number {
  return Math.ceil((binding().addressInPage(bytes) + bytes.byteLength) / PAGE);
}

/** Without the first and the last page where others may write them too. */
export function ownPages(kind: Kind, pages: number[], bytes: Uint8Array): number[] {
  return kind.exact ? pages : pages.filter((page) => page > 0 && page < pageCountOf(bytes) - 1);
}

/** The offset of the first byte of page `page` that belongs to the memory. */
export function offsetOf(page: number, bytes: Uint8Array): number {
  return Math.max(0, page * PAGE - binding().addressInPage(bytes));
}

/** The offset of the last byte of page `page` that belongs to the memory. */
export function lastByteOf(page: number, bytes: Uint8Array): number {
  return Math.min(bytes.byteLength, (page + 1) * PAGE - binding().addressInPage(bytes)) - 1;
}

/** Stores one byte into the page. */
export function touch(bytes: Uint8Array, page: number, value: number): void {
  bytes[offsetOf(page, bytes)] = value;
}

type Resizable<B> = B & { resize(bytes: number): void };
type Growable<B> = B & { grow(bytes: number): void };

/** Resizable buffers are in every Node.js since 20; the types of this target do not have them yet. */
export function resizableBuffer(bytes: number, maxByteLength: number): Resizable<ArrayBuffer> {
  const Constructor = ArrayBuffer as new (bytes: number, options: { maxByteLength: number }) => ArrayBuffer;
  return new Constructor(bytes, { maxByteLength }) as Resizable<ArrayBuffer>;
}

export function growableBuffer(bytes: number, maxByteLength: number): Growable<SharedArrayBuffer> {
  const Constructor = SharedArrayBuffer as new (
    bytes: number,
    options: { maxByteLength: number },
  ) => SharedArrayBuffer;
  return new Constructor(bytes, { maxByteLength }) as Growable<SharedArrayBuffer>;
}

/** A module whose export `store(address, value)` is one i32.store into the memory it imports as `m.mem`. */
export function wasmStore(memory: WebAssembly.Memory): (address: number, value: number) => void {
  const shared = memory.buffer instanceof SharedArrayBuffer;
  // A shared import must name a maximum; 65,536 pages fit any memory.
  const limits = shared ? [0x03, 0x00, 0x80, 0x80, 0x04] : [0x00, 0x00];
  const imported = [0x01, 0x01, 0x6d, 0x03, 0x6d, 0x65, 0x6d, 0x02, ...limits];
  const store = [0x00, 0x20, 0x00, 0x20, 0x01, 0x36, 0x02, 0x00, 0x0b];
  const bytes = Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...[0x01, 0x06, 0x01, 0x60, 0x02, 0x7f, 0x7f, 0x00],
    ...[0x02, imported.length, ...imported],
    ...[0x03, 0x02, 0x01, 0x00],
    ...[0x07, 0x09, 0x01, 0x05, 0x73, 0x74, 0x6f, 0x72, 0x65, 0x00, 0x00],
    ...[0x0a, store.length + 2, 0x01, store.length, ...store],
  ]);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { m: { mem: memory } });
  return instance.exports['store'] as (address: number, value: number) => void;
}

/** Words of the hand-shake between a PageWriter and its Worker. */
export const WRITER = {
  turn: 0,
  command: 1,
  count: 2,
  value: 3,
  list: 4,
  end: 0,
  write: 1,
  grow: 2,
} as const;

export interface PageWriterData {
  memory: WebAssembly.Memory | SharedArrayBuffer;
  control: SharedArrayBuffer;
}

/** A Worker that writes when it is told to. Each call returns when the Worker has done it. */
export class PageWriter implements AsyncDisposable {
  readonly #control: Int32Array;
  readonly #worker: Worker;

  constructor(memory: WebAssembly.Memory | SharedArrayBuffer, largestList = 4096) {
    const control = new SharedArrayBuffer((WRITER.list + largestList) * 4);
    this.#control = new Int32Array(control);
    this.#worker = new Worker(path.join(__dirname, 'dirty-worker.js'), {
      workerData: { memory, control } satisfies PageWriterData,
    });
  }

  /** Stores one byte into each page, which is counted from the start of the memory. */
  write(pages: readonly number[], value: number): void {
    this.#control.set(pages, WRITER.list);
    this.#tell(WRITER.write, pages.length, value);
  }

  /** WebAssembly.Memory.grow in the Worker. */
  grow(wasmPages: number): void {
    this.#tell(WRITER.grow, wasmPages, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.#tell(WRITER.end, 0, 0);
    assert.equal(await exited, 0);
  }

  #tell(command: number, count: number, value: number): void {
    const control = this.#control;
    control[WRITER.command] = command;
    control[WRITER.count] = count;
    control[WRITER.value] = value;
    const turn = Atomics.add(control, WRITER.turn, 1) + 1;
    Atomics.notify(control, WRITER.turn);
    const waited = Atomics.wait(control, WRITER.turn, turn, 10_000);
    assert.notEqual(waited, 'timed-out', 'the Worker answers');
  }
}
