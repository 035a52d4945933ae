// Puts what a snapshot file holds into memory. Nothing is written before everything that will be is
// known to be right.

import { binding } from './binding.js';
import {
  invalidValue,
  restoredInPart,
  snapshotLength,
  snapshotPageSize,
  systemError,
  throwIfAborted,
} from './errors.js';
import type { Region } from './region.js';
import type { SnapshotChain } from './snapshot-chain.js';
import type { SaveProgress } from './snapshot-encoder.js';

export interface FileRestoreStats {
  /** Pages that differed and were written. */
  pages: number;
  /** Their bytes. */
  bytes: number;
}

export interface RestoreProgressOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: SaveProgress) => void) | undefined;
}

/** Up to this many bytes of pages are held, checked, before the first is written; more are read twice. */
const HELD = 2 ** 26;

/** Pages of one memory, checked. */
interface Held {
  memory: number;
  first: number;
  bytes: Buffer;
}

export async function restoreChain(
  chain: SnapshotChain,
  regions: readonly Region[],
  { signal, onProgress }: RestoreProgressOptions,
  held = HELD,
): Promise<FileRestoreStats> {
  const { pageSize, maps } = chain;
  checkRestorable(chain, regions);
  const data = maps.reduce((sum, map) => sum + map.pageCount, 0) * pageSize;
  const isHeld = data <= held;
  const progress = { done: 0, total: isHeld ? data : data * 2 };
  const advance = (bytes: number): void => {
    progress.done += bytes;
    onProgress?.({ ...progress });
    throwIfAborted(signal);
  };
  const blocks = await readAll(chain, isHeld, advance);
  checkLengths(chain, regions);
  for (const { bytes } of regions) {
    const failure = binding().emptyLostPages(bytes);
    if (failure !== undefined) throw systemError(failure);
  }
  const writer = new PageWriter(chain, regions);
  writer.zeroHoles();
  if (isHeld) {
    for (const { memory, first, bytes } of blocks) writer.write(memory, first, bytes);
    return writer.stats;
  }
  // Neither an abort nor what onProgress throws ends it from here on: the memory would be neither the
  // old nor the new.
  const thrown: unknown[] = [];
  try {
    for (const [memory, map] of maps.entries()) {
      for await (const { first, bytes } of chain.blocks(memory, 0, endOf(map))) {
        writer.write(memory, first, bytes);
        progress.done += bytes.length;
        try {
          onProgress?.({ ...progress });
        } catch (error) {
          thrown.push(error);
        }
      }
    }
  } catch (error) {
    throw restoredInPart(error);
  }
  if (thrown.length > 0) throw thrown[0];
  return writer.stats;
}

export function checkRestorable(chain: SnapshotChain, regions: readonly Region[]): void {
  const { pageSize, maps } = chain;
  // Pages are compared and written in the machine's size: a file of another machine has its own.
  if (pageSize !== binding().pageSize) throw snapshotPageSize(pageSize, binding().pageSize);
  if (maps.length !== regions.length) {
    throw invalidValue(
      'memory',
      `must be of ${maps.length} memories, as the snapshot file is`,
      `${regions.length} of them`,
    );
  }
  checkLengths(chain, regions);
}

async function readAll(
  chain: SnapshotChain,
  keep: boolean,
  advance: (bytes: number) => void,
): Promise<Held[]> {
  const blocks: Held[] = [];
  for (const [memory, map] of chain.maps.entries()) {
    for await (const { first, bytes } of chain.blocks(memory, 0, endOf(map))) {
      if (keep) blocks.push({ memory, first, bytes: Buffer.from(bytes) });
      advance(bytes.length);
    }
  }
  return blocks;
}

function endOf(map: { length: number; first: Float64Array; count: Float64Array }): number {
  return map.length === 0 ? 0 : map.first[map.length - 1]! + map.count[map.length - 1]!;
}

function checkLengths(chain: SnapshotChain, regions: readonly Region[]): void {
  for (const [memory, { byteLength }] of chain.newest.memories.entries()) {
    const now = regions[memory]!.bytes.byteLength;
    if (now !== byteLength) throw snapshotLength(memory, byteLength, now);
  }
}

/** Writes what differs only: a page that is as it should be stays clean, and one that never was is not made. */
class PageWriter {
  readonly stats: FileRestoreStats = { pages: 0, bytes: 0 };
  readonly #chain: SnapshotChain;
  readonly #regions: readonly Region[];

  constructor(chain: SnapshotChain, regions: readonly Region[]) {
    this.#chain = chain;
    this.#regions = regions;
  }

  /** All pages that are in no file. */
  zeroHoles(): void {
    const { pageSize } = this.#chain;
    for (const [memory, map] of this.#chain.maps.entries()) {
      const region = this.#regions[memory]!;
      let at = 0;
      for (let run = 0; run < map.length; run++) {
        this.#zero(region, at, map.first[run]! * pageSize);
        at = (map.first[run]! + map.count[run]!) * pageSize;
      }
      this.#zero(region, at, region.byteLength);
    }
  }

  /** The memory may have grown since its length was checked. What it grew by is left alone. */
  write(memory: number, first: number, pages: Buffer): void {
    const { pageSize } = this.#chain;
    const { byteLength } = this.#chain.newest.memories[memory]!;
    const { bytes } = this.#regions[memory]!;
    if (bytes.byteLength < byteLength) throw snapshotLength(memory, byteLength, bytes.byteLength);
    const live = bytes.subarray(first * pageSize, byteLength);
    for (let at = 0; at < pages.length; at += pageSize) {
      // The last page of a memory may be a part of one.
      const now = live.subarray(at, at + pageSize);
      const page = pages.subarray(at, at + now.length);
      if (page.equals(now)) continue;
      now.set(page);
      this.stats.pages++;
      this.stats.bytes += now.length;
    }
  }

  #zero(region: Region, from: number, to: number): void {
    if (from >= to) return;
    const { pageSize } = this.#chain;
    const bytes = region.bytes.subarray(from, to);
    const ranges = isZeroWhereItHasNoPage(region)
      ? binding().nonZeroPagesThatExist(bytes, region.pageSize)
      : binding().nonZeroPages(bytes, pageSize);
    for (let i = 0; i < ranges.length; i += 2) {
      bytes.fill(0, ranges[i], ranges[i]! + ranges[i + 1]!);
      this.stats.pages += Math.ceil(ranges[i + 1]! / pageSize);
      this.stats.bytes += ranges[i + 1]!;
    }
  }
}

/** Not a file's, nor one whose missing pages somebody may yet fill; nor a buffer inside pages of others. */
function isZeroWhereItHasNoPage(region: Region): boolean {
  const { bytes, kind, backing } = region;
  return kind !== 'foreign' && backing !== 'file' && !binding().mayFault(bytes);
}
