// Which pages a snapshot file is to hold: those that are not zero, or that its parent has otherwise.

import { binding } from './binding.js';
import { PageDigests } from './page-digest.js';
import type { DigestReader } from './snapshot-chain.js';
import type { SnapshotEncoder } from './snapshot-encoder.js';
import { DIGEST_BYTES } from './snapshot-format.js';

/** Pages of a memory that the file may need, and their digests, which are being made. */
export class Candidates {
  /** The first page that was looked at. */
  readonly first: number;
  /** Pages that were looked at. */
  readonly count: number;
  readonly pageSize: number;
  /** `[offset, length, …]` of those that are not zero, in bytes from `first` on. */
  readonly nonZero: Float64Array;
  /** Those, without the gaps between them. */
  readonly bytes: Buffer;
  readonly digests: PageDigests;

  /** Moves what is not zero to the front of `pages`. */
  constructor(pages: Buffer, first: number, pageSize: number) {
    this.first = first;
    this.count = pages.length / pageSize;
    this.pageSize = pageSize;
    this.nonZero = binding().nonZeroPages(pages, pageSize);
    let kept = 0;
    for (let run = 0; run < this.nonZero.length; run += 2) {
      const [offset, length] = [this.nonZero[run]!, this.nonZero[run + 1]!];
      pages.copyWithin(kept, offset, offset + length);
      kept += length;
    }
    this.bytes = pages.subarray(0, kept);
    this.digests = new PageDigests(this.bytes, pageSize);
  }
}

/** Tells the encoder what the file needs of them, and returns that: at the front of their bytes. */
export async function selectPages(
  encoder: SnapshotEncoder,
  candidates: Candidates,
  older: ParentPages | undefined,
): Promise<Buffer> {
  const { first, count, pageSize, nonZero, bytes } = candidates;
  await older?.load(first, count);
  const digests = await candidates.digests.made();
  if (older !== undefined) return older.select(encoder, candidates, digests);
  for (let run = 0; run < nonZero.length; run += 2) {
    encoder.data(first + nonZero[run]! / pageSize, nonZero[run + 1]! / pageSize);
  }
  encoder.digests(digests);
  return bytes;
}

/** The digests that the parent has for the pages at hand. */
export class ParentPages {
  readonly #reader: DigestReader;
  #first = 0;
  #count = 0;
  #digests = Buffer.alloc(0);
  #present = new Uint8Array(0);

  constructor(reader: DigestReader) {
    this.#reader = reader;
  }

  async load(first: number, count: number): Promise<void> {
    this.#first = first;
    this.#count = count;
    if (this.#present.length < count) {
      this.#digests = Buffer.allocUnsafe(count * DIGEST_BYTES);
      this.#present = new Uint8Array(count);
    }
    this.#present.fill(0);
    await this.#reader.read(first, first + count, (page, pages, digests) => {
      digests.copy(this.#digests, (page - first) * DIGEST_BYTES);
      this.#present.fill(1, page - first, page - first + pages);
    });
  }

  /** Keeps what differs of the candidates, for which it was loaded. */
  select(encoder: SnapshotEncoder, { nonZero, bytes, pageSize }: Candidates, digests: Buffer): Buffer {
    let kept = 0;
    let at = 0;
    let page = 0;
    for (let run = 0; run <= nonZero.length; run += 2) {
      const start = run < nonZero.length ? nonZero[run]! / pageSize : this.#count;
      for (; page < start; page++) if (this.#present[page] === 1) encoder.zero(this.#first + page, 1);
      if (run === nonZero.length) break;
      for (const end = start + nonZero[run + 1]! / pageSize; page < end; page++, at++) {
        if (this.#has(page, digests, at)) continue;
        encoder.data(this.#first + page, 1);
        bytes.copyWithin(kept * pageSize, at * pageSize, (at + 1) * pageSize);
        digests.copyWithin(kept * DIGEST_BYTES, at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES);
        kept++;
      }
    }
    // A copy: what is left of the others would stay in memory until the file ends.
    encoder.digests(Buffer.from(digests.subarray(0, kept * DIGEST_BYTES)));
    return bytes.subarray(0, kept * pageSize);
  }

  #has(page: number, digests: Buffer, at: number): boolean {
    if (this.#present[page] === 0) return false;
    const own = page * DIGEST_BYTES;
    const other = at * DIGEST_BYTES;
    return digests.compare(this.#digests, own, own + DIGEST_BYTES, other, other + DIGEST_BYTES) === 0;
  }
}
