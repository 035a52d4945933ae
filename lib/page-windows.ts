// Reading the pages of a file, and their digests, a window at a time: ascending access reads each part once.

import { PageDigests } from './page-digest.js';
import type { PagePiece } from './page-runs.js';
import { behind } from './read-ahead.js';
import { DIGEST_BYTES } from './snapshot-format.js';
import type { SnapshotLink } from './snapshot-link.js';

/** Of pages, read at a time, in bytes: as much as there is to be read, between these two, if the file has it. */
const LEAST_BYTES = 2 ** 18;
const MOST_BYTES = 2 ** 20;
/** So many blocks are begun before they are needed. */
const AHEAD = 4;

/** Pages one after another, checked. The buffers are used again for the next ones. */
export interface PageBlock {
  /** The first page. */
  first: number;
  count: number;
  bytes: Buffer;
  digests: Buffer;
}

/** Digests around the last one asked for. */
export class DigestWindow {
  static readonly #CAPACITY = 1024;
  readonly #link: SnapshotLink;
  #digests = Buffer.alloc(0);
  #start = 0;

  constructor(link: SnapshotLink) {
    this.#link = link;
  }

  /** As many of `count` digests from `index` on as the window has, at least one. */
  async at(index: number, count: number): Promise<Buffer> {
    const capacity = DigestWindow.#CAPACITY;
    if (index < this.#start || index >= this.#start + this.#digests.length / DIGEST_BYTES) {
      this.#start = index - (index % capacity);
      const held = Math.min(capacity, this.#link.trailer.dataPages - this.#start);
      const digests = Buffer.allocUnsafe(held * DIGEST_BYTES);
      await this.#link.digests(this.#start, digests);
      this.#digests = digests;
    }
    const at = (index - this.#start) * DIGEST_BYTES;
    return this.#digests.subarray(at, at + count * DIGEST_BYTES);
  }
}

/** A part of a file, which several blocks may be of. */
interface Window {
  /** Of its first page, in the file. */
  start: number;
  held: number;
  bytes: Buffer;
  digests: Buffer;
  read: Promise<unknown>;
  /** Blocks that are not done with, and whoever may make more of them. */
  users: number;
}

interface BegunBlock extends PageBlock {
  link: SnapshotLink;
  window: Window;
  begun: Promise<PageDigests>;
}

/**
 * The pages of these pieces, checked. Some blocks ahead of whoever takes them the files are read, each part once where
 * the pieces ascend, and the digests are begun.
 */
export async function* readPages(
  links: readonly SnapshotLink[],
  pieces: Iterable<PagePiece>,
): AsyncGenerator<PageBlock, undefined, undefined> {
  const room = new WindowRoom();
  for (const block of behind(begunBlocks(links, pieces, room), AHEAD)) {
    const made = await (await block.begun).made();
    if (!made.equals(block.digests)) block.link.failAsCorrupt('a page does not match its digest');
    yield block;
    room.leave(block.window);
  }
  return undefined;
}

function* begunBlocks(
  links: readonly SnapshotLink[],
  pieces: Iterable<PagePiece>,
  room: WindowRoom,
): Generator<BegunBlock, undefined, undefined> {
  const windows: (Window | undefined)[] = links.map(() => undefined);
  for (const { first, count, link: at, index } of pieces) {
    const link = links[at]!;
    for (let done = 0; done < count;) {
      let window = windows[at];
      if (window === undefined || index + done < window.start || index + done >= window.start + window.held) {
        if (window !== undefined) room.leave(window);
        window = windows[at] = room.read(link, index + done, count - done);
      }
      const block = blockOf(link, window, index + done, count - done);
      yield { ...block, first: first + done };
      done += block.count;
      if (index + done === window.start + window.held) {
        room.leave(window);
        windows[at] = undefined;
      }
    }
  }
  return undefined;
}

function blockOf(
  link: SnapshotLink,
  window: Window,
  index: number,
  count: number,
): Omit<BegunBlock, 'first'> {
  const { pageSize } = link.header;
  const from = index - window.start;
  const to = Math.min(from + count, window.held);
  const bytes = window.bytes.subarray(from * pageSize, to * pageSize);
  const digests = window.digests.subarray(from * DIGEST_BYTES, to * DIGEST_BYTES);
  const begun = window.read.then(() => new PageDigests(bytes, pageSize));
  // Who takes the block hears of it, if anybody does.
  begun.catch(() => undefined);
  window.users++;
  return { count: to - from, bytes, digests, link, window, begun };
}

/** Windows in turns: fresh ones cost page faults. */
class WindowRoom {
  readonly #free: Window[] = [];

  /** A window that begins with a page of the file. What is behind those asked for is likely to be next. */
  read(link: SnapshotLink, start: number, count: number): Window {
    const { pageSize } = link.header;
    const pagesOf = (bytes: number): number => Math.max(1, bytes / pageSize);
    const [least, most] = [pagesOf(LEAST_BYTES), pagesOf(MOST_BYTES)];
    const held = Math.min(Math.max(count, least), most, link.trailer.dataPages - start);
    const { bytes, digests } = this.#freeFor(held * pageSize) ?? {
      bytes: Buffer.allocUnsafe((held > least ? most : held) * pageSize),
      digests: Buffer.allocUnsafe((held > least ? most : held) * DIGEST_BYTES),
    };
    const read = Promise.all([
      link.pages(start, bytes.subarray(0, held * pageSize)),
      link.digests(start, digests.subarray(0, held * DIGEST_BYTES)),
    ]);
    return { start, held, bytes, digests, read, users: 1 };
  }

  leave(window: Window): void {
    if (--window.users === 0) this.#free.push(window);
  }

  #freeFor(byteLength: number): Window | undefined {
    const at = this.#free.findIndex(({ bytes }) => bytes.length >= byteLength);
    return at === -1 ? undefined : this.#free.splice(at, 1)[0];
  }
}
