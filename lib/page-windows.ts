// Reading the pages of a file, and their digests, a window at a time: ascending access reads each part once.

import { DIGEST_BYTES } from './snapshot-format.js';
import { windowPages, type SnapshotLink } from './snapshot-link.js';

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

/** Pages around the last one asked for. Ascending access reads each part of the file once. */
export class PageWindow {
  readonly #link: SnapshotLink;
  readonly #capacity: number;
  #bytes = Buffer.alloc(0);
  #digests = Buffer.alloc(0);
  #start = 0;
  #held = 0;

  constructor(link: SnapshotLink) {
    this.#link = link;
    this.#capacity = windowPages(link.header.pageSize);
  }

  async at(index: number, count: number): Promise<Omit<PageBlock, 'first'>> {
    const { pageSize } = this.#link.header;
    if (index < this.#start || index >= this.#start + this.#held) await this.#load(index, pageSize);
    const from = index - this.#start;
    const to = Math.min(from + count, this.#held);
    return {
      count: to - from,
      bytes: this.#bytes.subarray(from * pageSize, to * pageSize),
      digests: this.#digests.subarray(from * DIGEST_BYTES, to * DIGEST_BYTES),
    };
  }

  async #load(index: number, pageSize: number): Promise<void> {
    const start = index - (index % this.#capacity);
    const held = Math.min(this.#capacity, this.#link.trailer.dataPages - start);
    if (this.#bytes.length === 0) {
      const most = Math.min(this.#capacity, this.#link.trailer.dataPages);
      this.#bytes = Buffer.allocUnsafe(most * pageSize);
      this.#digests = Buffer.allocUnsafe(most * DIGEST_BYTES);
    }
    this.#held = 0;
    await Promise.all([
      this.#link.pages(start, this.#bytes.subarray(0, held * pageSize)),
      this.#link.digests(start, this.#digests.subarray(0, held * DIGEST_BYTES)),
    ]);
    this.#start = start;
    this.#held = held;
  }
}
