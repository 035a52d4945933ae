// Where two snapshot files differ, by the digests of their pages: their bytes are not read.

import { PageRuns, type PageMap, type PagePiece } from './page-runs.js';
import type { DigestReader, SnapshotChain } from './snapshot-chain.js';
import { DIGEST_BYTES } from './snapshot-format.js';

/** Digests compared at a time. */
const STEP = 1024;

/** The pages of one memory that differ, those behind the end of the shorter one among them unless they are zero. */
export async function differingPages(a: SnapshotChain, b: SnapshotChain, memory: number): Promise<PageRuns> {
  const different = new PageRuns();
  const [readA, readB] = [a.digestReader(memory), b.digestReader(memory)];
  for (const { first, count, inA, inB } of segments(a.maps[memory]!, b.maps[memory]!)) {
    if (inA === undefined || inB === undefined) {
      different.add(first, count);
    } else if (inA.index !== inB.index || !readA.fileOf(inA).equals(readB.fileOf(inB))) {
      await compare(readA, inA, readB, inB, different);
    }
  }
  return different;
}

async function compare(
  readA: DigestReader,
  a: PagePiece,
  readB: DigestReader,
  b: PagePiece,
  different: PageRuns,
): Promise<void> {
  for (let done = 0; done < a.count; done += STEP) {
    const count = Math.min(STEP, a.count - done);
    const digestsA = await digestsOf(readA, a, done, count);
    const digestsB = await digestsOf(readB, b, done, count);
    for (let i = 0; i < count; i++) {
      const [from, to] = [i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES];
      if (digestsA.compare(digestsB, from, to, from, to) !== 0) different.add(a.first + done + i, 1);
    }
  }
}

async function digestsOf(
  reader: DigestReader,
  piece: PagePiece,
  skip: number,
  count: number,
): Promise<Buffer> {
  const all = Buffer.allocUnsafe(count * DIGEST_BYTES);
  const { link, index } = piece;
  await reader.readPiece({ first: 0, count, link, index: index + skip }, (first, _count, digests) => {
    digests.copy(all, first * DIGEST_BYTES);
  });
  return all;
}

interface Segment {
  first: number;
  count: number;
  /** Absent where the file has zeros. */
  inA: PagePiece | undefined;
  inB: PagePiece | undefined;
}

/** The pages that either map has, cut where one of the two begins or ends a run. */
function* segments(a: PageMap, b: PageMap): Generator<Segment, undefined, undefined> {
  const cursors = [new Cursor(a), new Cursor(b)] as const;
  for (let page = 0; ;) {
    const [inA, inB] = cursors;
    page = Math.min(inA.next(page), inB.next(page));
    if (page === Infinity) return undefined;
    const end = Math.min(inA.edgeAfter(page), inB.edgeAfter(page));
    const count = end - page;
    yield { first: page, count, inA: inA.piece(page, count), inB: inB.piece(page, count) };
    page = end;
  }
}

class Cursor {
  readonly #map: PageMap;
  #run = 0;

  constructor(map: PageMap) {
    this.#map = map;
  }

  /** The first page from `page` on that the map has. */
  next(page: number): number {
    while (this.#run < this.#map.length && this.#end() <= page) this.#run++;
    return this.#run === this.#map.length ? Infinity : Math.max(page, this.#map.first[this.#run]!);
  }

  /** Where the run that holds `page` ends, or the next begins. */
  edgeAfter(page: number): number {
    if (this.#run === this.#map.length) return Infinity;
    const first = this.#map.first[this.#run]!;
    return first > page ? first : this.#end();
  }

  piece(page: number, count: number): PagePiece | undefined {
    if (this.#run === this.#map.length || this.#map.first[this.#run]! > page) return undefined;
    const { first, link, index } = this.#map;
    return {
      first: page,
      count,
      link: link[this.#run]!,
      index: index[this.#run]! + page - first[this.#run]!,
    };
  }

  #end(): number {
    return this.#map.first[this.#run]! + this.#map.count[this.#run]!;
  }
}
