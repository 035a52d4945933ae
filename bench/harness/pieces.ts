// Memory larger than a buffer of every supported Node.js may be (4 GiB on Node.js 20): several regions.

import { Region } from '../../lib/index.js';
import { GIB } from './pattern.js';

/** Regions of at most 1 GiB, not touched. */
export function allocatePieces(bytes: number, hugePages: 'never' | 'advise'): Region[] {
  const pieces: Region[] = [];
  for (let left = bytes; left > 0; left -= GIB) {
    pieces.push(Region.allocate({ bytes: Math.min(left, GIB), hugePages }));
  }
  return pieces;
}
