// What snapshot files say of themselves.

import type { SnapshotChain } from './snapshot-chain.js';
import { FORMAT_VERSION } from './snapshot-format.js';
import type { SnapshotLink } from './snapshot-link.js';

export interface SnapshotFileInfo {
  /** Undefined when it came from a stream and was not kept. */
  path: string | undefined;
  /** Of the format. */
  version: number;
  /** Names the file and everything in it: SHA-256, hexadecimal. */
  digest: string;
  /** What the file is a difference from; undefined when it needs no other. */
  parent: { digest: string; name: string } | undefined;
  /** In bytes. */
  pageSize: number;
  /** Size of each memory, in bytes. */
  byteLengths: number[];
  /** Size of the file, in bytes. */
  bytes: number;
  /** Pages whose bytes are in this file. */
  pages: number;
  /** Pages it says are zero where its parent has others. */
  zeroPages: number;
}

export interface SnapshotInfo extends SnapshotFileInfo {
  /** The file and all it is a difference from, the full one first. */
  chain: SnapshotFileInfo[];
  /** Pages of the memories that are not zero, wherever in the chain they are. */
  nonZeroPages: number;
}

export function fileInfo({ file, header, trailer, memories }: SnapshotLink): SnapshotFileInfo {
  const { parent, pageSize } = header;
  return {
    path: file.path,
    version: FORMAT_VERSION,
    digest: trailer.digest.toString('hex'),
    parent: parent && { digest: parent.digest.toString('hex'), name: parent.name },
    pageSize,
    byteLengths: memories.map(({ byteLength }) => byteLength),
    bytes: file.byteLength,
    pages: trailer.dataPages,
    zeroPages: memories.reduce((sum, { zero }) => sum + zero.pageCount, 0),
  };
}

export function chainInfo(chain: SnapshotChain): SnapshotInfo {
  return {
    ...fileInfo(chain.newest),
    chain: chain.links.map(fileInfo),
    nonZeroPages: chain.maps.reduce((sum, map) => sum + map.pageCount, 0),
  };
}
