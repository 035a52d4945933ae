// A snapshot file with all it is a difference from: where each page of its memories is, and reading them.

import path from 'node:path';
import { inFile, parentMismatch, parentMissing, UffdError } from './errors.js';
import { placeBeside, type FilePlace } from './file-place.js';
import { overlay, PageMap, type PagePiece } from './page-runs.js';
import { DigestWindow, readPages, type PageBlock } from './page-windows.js';
import { printable } from './printable.js';
import { DIGEST_BYTES } from './snapshot-format.js';
import { SnapshotLink } from './snapshot-link.js';

export class SnapshotChain {
  /** From the full file to the newest. */
  readonly links: readonly SnapshotLink[];
  /** Of each memory. */
  readonly maps: readonly PageMap[];

  private constructor(links: readonly SnapshotLink[]) {
    this.links = links;
    this.maps = links
      .at(-1)!
      .memories.map((_, memory) =>
        links.reduce((map, link, i) => overlay(map, link.memories[memory]!, i), new PageMap()),
      );
  }

  /**
   * Finds what `newest` is a difference from, among `candidates` first. Takes `newest` over, also when it
   * throws, and none of the candidates.
   */
  static async of(newest: SnapshotLink, candidates: readonly SnapshotLink[]): Promise<SnapshotChain> {
    const links = [newest];
    try {
      for (let link = newest; link.header.parent !== undefined; link = links[0]!) {
        const parent = await parentOf(link, candidates);
        links.unshift(parent);
        checkFits(link, parent);
      }
      return new SnapshotChain(links);
    } catch (error) {
      for (const link of links) link.file.release();
      throw error;
    }
  }

  get newest(): SnapshotLink {
    return this.links.at(-1)!;
  }

  get pageSize(): number {
    return this.newest.header.pageSize;
  }

  retain(): void {
    for (const link of this.links) link.file.retain();
  }

  release(): void {
    for (const link of this.links) link.file.release();
  }

  /** The pages between two that are not zero, ascending. */
  blocks(memory: number, from: number, to: number): AsyncGenerator<PageBlock, undefined, undefined> {
    return readPages(this.links, this.maps[memory]!.pieces(from, to));
  }

  /** `length` bytes from `offset` on, checked page by page. */
  async read(memory: number, offset: number, length: number): Promise<Uint8Array> {
    const { pageSize } = this;
    const bytes = new Uint8Array(length);
    const [from, to] = [Math.floor(offset / pageSize), Math.ceil((offset + length) / pageSize)];
    for await (const block of this.blocks(memory, from, to)) {
      const at = block.first * pageSize - offset;
      const skip = Math.max(0, -at);
      bytes.set(block.bytes.subarray(skip, Math.min(block.bytes.length, length - at)), at + skip);
    }
    return bytes;
  }

  digestReader(memory: number): DigestReader {
    return new DigestReader(this.links, this.maps[memory]!);
  }
}

/** The digests of one memory's pages. Reading them in ascending order reads each part of a file once. */
export class DigestReader {
  readonly #links: readonly SnapshotLink[];
  readonly #map: PageMap;
  readonly #windows: DigestWindow[];

  constructor(links: readonly SnapshotLink[], map: PageMap) {
    this.#links = links;
    this.#map = map;
    this.#windows = links.map((link) => new DigestWindow(link));
  }

  /** Calls `use` for all pages between two that are not zero, ascending. */
  async read(
    from: number,
    to: number,
    use: (first: number, count: number, digests: Buffer) => void,
  ): Promise<void> {
    for (const piece of this.#map.pieces(from, to)) await this.readPiece(piece, use);
  }

  async readPiece(
    { first, count, link, index }: PagePiece,
    use: (first: number, count: number, digests: Buffer) => void,
  ): Promise<void> {
    for (let done = 0; done < count;) {
      const digests = await this.#windows[link]!.at(index + done, count - done);
      use(first + done, digests.length / DIGEST_BYTES, digests);
      done += digests.length / DIGEST_BYTES;
    }
  }

  /** Names the content of a piece: what two chains share is equal without being read. */
  fileOf({ link }: PagePiece): Buffer {
    return this.#links[link]!.digest;
  }
}

/** Among the candidates, else beside the child under the name it had then; its digest decides. */
async function parentOf(child: SnapshotLink, candidates: readonly SnapshotLink[]): Promise<SnapshotLink> {
  const { digest, name } = child.header.parent!;
  const given = candidates.find((candidate) => candidate.digest.equals(digest));
  if (given !== undefined) {
    given.file.retain();
    return given;
  }
  const beside = child.file.place && (await openBeside(child.file.place, name));
  if (beside?.digest.equals(digest)) return beside;
  const hex = digest.toString('hex');
  if (beside !== undefined) {
    beside.file.release();
    const found = beside.digest.toString('hex');
    throw inFile(
      parentMismatch(`${printable(beside.file.name)} is ${found}, its parent is ${hex}`),
      child.file.name,
    );
  }
  if (candidates.length > 0) {
    throw inFile(parentMismatch(`none of the files given is ${hex}`), child.file.name);
  }
  throw inFile(parentMissing(hex, name), child.file.name);
}

async function openBeside(child: FilePlace, name: string): Promise<SnapshotLink | undefined> {
  // Of a name in a directory: whatever the file says, nothing outside is opened.
  if (name === '' || name === '.' || name === '..' || name !== path.basename(name) || name.includes('\0')) {
    return undefined;
  }
  try {
    return await SnapshotLink.open(placeBeside(child, name));
  } catch (error) {
    if (error instanceof UffdError && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function checkFits(child: SnapshotLink, parent: SnapshotLink): void {
  const [a, b] = [child.header, parent.header];
  if (a.pageSize === b.pageSize && a.memoryCount === b.memoryCount) return;
  throw inFile(parentMismatch('it has other pages or another number of memories'), child.file.name);
}
