// Several files of a chain as one that needs no other.

import { throwIfAborted } from './errors.js';
import type { SnapshotChain } from './snapshot-chain.js';
import type { SaveProgress, SnapshotEncoder } from './snapshot-encoder.js';

/** Of pages, written at a time: as many as are read at a time, at most. */
const STEP = 2 ** 20;

export interface CompactOptions {
  signal?: AbortSignal;
  /** In bytes of pages. */
  onProgress?: (progress: SaveProgress) => void;
}

/** The same bytes as a full save of the newest would have been. Every page is checked. */
export async function* compactChain(
  encoder: SnapshotEncoder,
  chain: SnapshotChain,
  signal: AbortSignal | undefined,
  onProgress: ((progress: SaveProgress) => void) | undefined,
): AsyncGenerator<Buffer, undefined, undefined> {
  const { maps, pageSize, newest } = chain;
  const total = maps.reduce((sum, map) => sum + map.pageCount, 0) * pageSize;
  let done = 0;
  let gathered = Buffer.allocUnsafe(STEP);
  let used = 0;
  yield encoder.header();
  for (const [memory, { byteLength, pages }] of newest.memories.entries()) {
    encoder.memory(byteLength);
    for await (const { first, count, bytes, digests } of chain.blocks(memory, 0, pages)) {
      throwIfAborted(signal);
      encoder.data(first, count);
      encoder.digests(Buffer.from(digests));
      if (used > 0 && used + bytes.length > gathered.length) {
        yield gathered.subarray(0, used);
        gathered = Buffer.allocUnsafe(Math.max(STEP, bytes.length));
        used = 0;
      }
      used += bytes.copy(gathered, used);
      onProgress?.({ done: (done += bytes.length), total });
    }
  }
  yield gathered.subarray(0, used);
  yield* encoder.end();
  return undefined;
}
