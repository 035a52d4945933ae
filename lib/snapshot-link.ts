// One snapshot file by itself: opened, its header and index checked, its pages read and checked.

import { createHash, type Hash } from 'node:crypto';
import { inFile, snapshotCorrupt, throwIfAborted } from './errors.js';
import type { FilePlace } from './file-place.js';
import { OpenFile } from './open-file.js';
import { PageDigests } from './page-digest.js';
import { readPages } from './page-windows.js';
import {
  decodeHeader,
  decodeTrailer,
  DIGEST_BYTES,
  HEADER_BYTES,
  headerDigestOf,
  indexOffset,
  pageOffset,
  TRAILER_BYTES,
  type Header,
  type Trailer,
} from './snapshot-format.js';
import { IndexDecoder, type MemoryIndex } from './snapshot-index.js';

/** Of the index, read at a time: whole runs and digests. */
const PIECE = 2 ** 18;
export interface VerifyLinkOptions {
  signal?: AbortSignal | undefined;
  /** Told of each step, in bytes of pages. */
  onBytes?: (bytes: number) => void;
}

export class SnapshotLink {
  readonly file: OpenFile;
  readonly header: Header;
  readonly trailer: Trailer;
  readonly memories: readonly MemoryIndex[];

  private constructor(file: OpenFile, header: Header, trailer: Trailer, memories: MemoryIndex[]) {
    this.file = file;
    this.header = header;
    this.trailer = trailer;
    this.memories = memories;
  }

  /** As OpenFile.open(). */
  static async open(place: FilePlace, from?: string): Promise<SnapshotLink> {
    return SnapshotLink.read(await OpenFile.open(place, from));
  }

  /** Takes over the file, also when it throws. */
  static async read(file: OpenFile): Promise<SnapshotLink> {
    try {
      const { header, trailer } = await readEnds(file);
      const memories = await readIndex(file, header, trailer);
      return new SnapshotLink(file, header, trailer, memories);
    } catch (error) {
      file.release();
      throw inFile(error, file.name);
    }
  }

  get digest(): Buffer {
    return this.trailer.digest;
  }

  /** For whoever reads it natively: where the first of its pages is, in bytes, and the digest of that. */
  layout(): { fd: number; pagesAt: number; digestsAt: number } {
    const { header, trailer, file } = this;
    const digestsAt = indexOffset(header, trailer) + trailer.indexBytes - trailer.dataPages * DIGEST_BYTES;
    return { fd: file.descriptor, pagesAt: pageOffset(header, 0), digestsAt };
  }

  /** `count` digests from that of page `index` on. */
  async digests(index: number, into: Buffer): Promise<void> {
    await this.#fill(into, this.layout().digestsAt + index * DIGEST_BYTES);
  }

  /** Pages from `index` on, as they are in the file. */
  async pages(index: number, into: Buffer): Promise<void> {
    await this.#fill(into, pageOffset(this.header, index));
  }

  failAsCorrupt(what: string): never {
    throw inFile(snapshotCorrupt(what), this.file.name);
  }

  /** Reads all of it again. */
  async verify({ signal, onBytes }: VerifyLinkOptions): Promise<void> {
    const { header, trailer } = this;
    try {
      const again = await readEnds(this.file);
      if (!again.trailer.digest.equals(trailer.digest)) throw snapshotCorrupt('it is another file now');
      await readIndex(this.file, header, trailer);
    } catch (error) {
      throw inFile(error, this.file.name);
    }
    const ofZeros = await new PageDigests(Buffer.alloc(header.pageSize), header.pageSize).made();
    const all = { first: 0, count: trailer.dataPages, link: 0, index: 0 };
    for await (const { bytes, digests } of readPages([this], [all])) {
      throwIfAborted(signal);
      if (digests.includes(ofZeros)) this.failAsCorrupt('it holds a page of zeros');
      onBytes?.(bytes.length);
    }
    await this.#verifyEnds();
  }

  /** The bytes behind the end of a memory that ends inside a page. */
  async #verifyEnds(): Promise<void> {
    const { pageSize } = this.header;
    const page = Buffer.allocUnsafe(pageSize);
    for (const { byteLength, pages, data, dataIndex } of this.memories) {
      const inLast = byteLength % pageSize;
      if (inLast === 0 || data.length === 0 || data.end(data.length - 1) !== pages) continue;
      await this.pages(dataIndex + data.pageCount - 1, page);
      if (page.subarray(inLast).every((byte) => byte === 0)) continue;
      this.failAsCorrupt('it has bytes behind the end of a memory');
    }
  }

  async #fill(into: Buffer, position: number): Promise<void> {
    if (await this.file.fill(into, position)) return;
    this.failAsCorrupt('it became shorter');
  }
}

async function fillFrom(file: OpenFile, bytes: number, position: number): Promise<Buffer> {
  const into = Buffer.allocUnsafe(bytes);
  if (!(await file.fill(into, position))) throw snapshotCorrupt('it is shorter than it should be');
  return into;
}

async function readEnds(file: OpenFile): Promise<{ header: Header; trailer: Trailer }> {
  const first = await fillFrom(file, HEADER_BYTES, 0);
  const header = decodeHeader(first);
  const rest = await fillFrom(file, header.pageSize - HEADER_BYTES, HEADER_BYTES);
  if (rest.some((byte) => byte !== 0)) {
    throw snapshotCorrupt('its header is followed by bytes that are not zero');
  }
  const at = file.byteLength - TRAILER_BYTES;
  if (at < header.pageSize) throw snapshotCorrupt('it is shorter than it should be');
  const trailer = decodeTrailer(await fillFrom(file, TRAILER_BYTES, at), header, file.byteLength);
  if (!headerDigestOf(first).equals(trailer.headerDigest)) {
    throw snapshotCorrupt('its begin and its end are of two files');
  }
  return { header, trailer };
}

async function readIndex(file: OpenFile, header: Header, trailer: Trailer): Promise<MemoryIndex[]> {
  const decoder = new IndexDecoder(header, trailer);
  const hash = createHash('sha256');
  let at = indexOffset(header, trailer);
  const pieces = async (bytes: number, use?: (piece: Buffer) => void): Promise<void> => {
    await eachPiece(file, at, bytes, hash, use);
    at += bytes;
  };
  const table: Buffer[] = [];
  await pieces(decoder.tableBytes, (piece) => table.push(Buffer.from(piece)));
  decoder.table(Buffer.concat(table));
  await pieces(decoder.runBytes, (piece) => decoder.runs(piece));
  const memories = decoder.finish();
  await pieces(trailer.dataPages * DIGEST_BYTES);
  if (!hash.digest().equals(trailer.indexDigest))
    throw snapshotCorrupt('its index does not match its digest');
  return memories;
}

async function eachPiece(
  file: OpenFile,
  position: number,
  bytes: number,
  hash: Hash,
  use?: (piece: Buffer) => void,
): Promise<void> {
  const window = Buffer.allocUnsafe(Math.min(bytes, PIECE));
  for (let done = 0; done < bytes; done += PIECE) {
    const piece = window.subarray(0, Math.min(PIECE, bytes - done));
    if (!(await file.fill(piece, position + done))) throw snapshotCorrupt('it is shorter than it should be');
    hash.update(piece);
    use?.(piece);
  }
}
