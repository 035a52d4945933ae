// From a snapshot to a file or a stream.

import { Readable } from 'node:stream';
import { findTarget, replaceFile, WRITES_AT_ONCE } from './atomic-file.js';
import { binding } from './binding.js';
import { closedError } from './errors.js';
import { filePlace } from './file-place.js';
import type { SnapshotChain } from './snapshot-chain.js';
import {
  encode,
  SnapshotEncoder,
  type SaveProgress,
  type SaveStats,
  type SnapshotSource,
} from './snapshot-encoder.js';
import type { SnapshotFile } from './snapshot-file.js';
import type { Lineage } from './snapshot-lineage.js';
import { checkFileOrPath, openChain, refuseOwnParent, type FileOrPlace } from './snapshot-parents.js';
import { checkOptions, checkPath, checkProgress, checkSignal } from './validate.js';

export interface StreamOptions {
  /** The file to save the difference from, or its path. Default: none, everything is saved. */
  parent?: string | SnapshotFile;
  signal?: AbortSignal;
}

export interface SaveOptions extends StreamOptions {
  /** Called as the memories are gone through. What it throws ends the save. */
  onProgress?: (progress: SaveProgress) => void;
}

interface CheckedOptions {
  parent: FileOrPlace | undefined;
  signal: AbortSignal | undefined;
  onProgress: SaveOptions['onProgress'];
}

/** What a snapshot has for a file. */
interface Readout {
  readonly closed: boolean;
  readonly byteLengths: readonly number[];
  read(offset: number, length: number, memory: number): Uint8Array;
  readInto(into: Uint8Array, offset: number, memory: number): Uint8Array;
}

/** What a snapshot tells beside its bytes. @internal */
export interface Kinship {
  readonly lineage: Lineage;
  /** Digests of the files it was saved to. */
  readonly savedAs: Set<string>;
}

/** @internal */
export function sourceOf(snapshot: Readout, { lineage, savedAs }: Kinship): SnapshotSource {
  if (snapshot.closed) throw closedError('snapshot');
  return {
    byteLengths: snapshot.byteLengths,
    pageSize: binding().pageSize,
    read: (offset, length, memory, into) =>
      into === undefined ? snapshot.read(offset, length, memory) : snapshot.readInto(into, offset, memory),
    changesSince: (digest, memory) => lineage.changesSince(digest, memory),
    saved: ({ digest }) => savedAs.add(digest),
  };
}

/** @internal */
export async function saveSnapshot(
  source: SnapshotSource,
  path: string,
  options?: SaveOptions,
): Promise<SaveStats> {
  const { parent, signal, onProgress } = checkSaveOptions(options, ['parent', 'signal', 'onProgress']);
  checkPath('path', path);
  const place = filePlace(path);
  return withParent(parent, async (chain) => {
    const target = await findTarget(place);
    refuseOwnParent('path', target, chain?.links ?? []);
    const encoder = new SnapshotEncoder(source.pageSize, source.byteLengths.length, chain);
    const options = { parent: chain, signal, onProgress, inUse: WRITES_AT_ONCE };
    await replaceFile(target, encode(encoder, source, options));
    return encoder.stats!;
  });
}

/** @internal */
export function streamSnapshot(source: SnapshotSource, options?: StreamOptions): Readable {
  const { parent, signal } = checkSaveOptions(options, ['parent', 'signal']);
  return Readable.from(chunksOf(source, parent, signal), { objectMode: false, ...(signal && { signal }) });
}

async function* chunksOf(
  source: SnapshotSource,
  parent: FileOrPlace | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, undefined, undefined> {
  const chain = await parentChain(parent);
  try {
    const encoder = new SnapshotEncoder(source.pageSize, source.byteLengths.length, chain);
    yield* encode(encoder, source, { parent: chain, signal });
  } finally {
    chain?.release();
  }
  return undefined;
}

async function withParent<T>(
  parent: FileOrPlace | undefined,
  use: (chain: SnapshotChain | undefined) => Promise<T>,
): Promise<T> {
  const chain = await parentChain(parent);
  try {
    return await use(chain);
  } finally {
    chain?.release();
  }
}

/** Held for the caller, who releases it. */
async function parentChain(parent: FileOrPlace | undefined): Promise<SnapshotChain | undefined> {
  return parent === undefined ? undefined : openChain(parent);
}

function checkSaveOptions(options: unknown, known: readonly string[]): CheckedOptions {
  const { parent, signal, onProgress } = checkOptions('options', options, known);
  const checked = parent === undefined ? undefined : checkFileOrPath('options.parent', parent);
  checkProgress(onProgress);
  return { parent: checked, signal: checkSignal(signal), onProgress } as CheckedOptions;
}
