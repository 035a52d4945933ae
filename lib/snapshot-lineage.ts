// Which pages may differ from a file: what was written between two snapshots of one memory, of which the
// older one is in that file. A difference then costs what changed, and not the size of the memory.

import { binding } from './binding.js';
import { regionInternals, type Region } from './region.js';
import type { RangeList } from './range-list.js';

/** A snapshot that later ones of its memories may be a difference from. */
export interface Ancestor {
  /** Of the files it was saved to. */
  readonly savedAs: ReadonlySet<string>;
  readonly byteLengths: readonly number[];
  /** Of each memory, the pages written since; undefined when that cannot be told. */
  writtenSince(): readonly RangeList[] | undefined;
}

/** What a snapshot knows of its ancestors: their files, and what was written from each to its instant. */
export class Lineage {
  readonly #changes: { savedAs: ReadonlySet<string>; changes: readonly RangeList[] }[] = [];

  /** Of a snapshot that was taken just now. What is written meanwhile is counted in: too much is no harm. */
  constructor(regions: readonly Region[], byteLengths: readonly number[]) {
    if (!regions.every(changesByWritesOnly)) return;
    for (const ancestor of openOn(regions)) {
      if (ancestor.savedAs.size === 0) continue;
      if (byteLengths.some((bytes, i) => bytes !== ancestor.byteLengths[i])) continue;
      const changes = ancestor.writtenSince();
      if (changes !== undefined) this.#changes.push({ savedAs: ancestor.savedAs, changes });
    }
  }

  /** The pages of a memory that may differ from the file with this digest; undefined: all may. */
  changesSince(digest: string, memory: number): RangeList | undefined {
    return this.#changes.find(({ savedAs }) => savedAs.has(digest))?.changes[memory];
  }
}

/** Not through another mapping, nor by a change of the file behind it: an ancestor would not know. */
function changesByWritesOnly(region: Region): boolean {
  const { liesIn } = regionInternals(region);
  return liesIn === undefined || binding().isPrivate(liesIn);
}

/** Where memory is, for telling it from other memory. */
interface Place {
  memory: object;
  byteOffset: number;
}

/** By the first of their memories; those that were forgotten are in here too, until somebody looks. */
const snapshots = new WeakMap<object, Set<{ places: Place[]; ancestor: WeakRef<Ancestor> }>>();

/** Until the result is called. */
export function enterLineage(regions: readonly Region[], ancestor: Ancestor): () => void {
  const places = regions.map(placeOf);
  const key = places[0]!.memory;
  const entry = { places, ancestor: new WeakRef(ancestor) };
  const entries = snapshots.get(key) ?? new Set();
  snapshots.set(key, entries.add(entry));
  return () => entries.delete(entry);
}

function openOn(regions: readonly Region[]): Ancestor[] {
  const here = regions.map(placeOf);
  const entries = snapshots.get(here[0]!.memory);
  const found: Ancestor[] = [];
  for (const entry of entries ?? []) {
    const ancestor = entry.ancestor.deref();
    if (ancestor === undefined) entries!.delete(entry);
    else if (isSame(entry.places, here)) found.push(ancestor);
  }
  return found;
}

function placeOf(region: Region): Place {
  return { memory: regionInternals(region).keepAlive, byteOffset: region.bytes.byteOffset };
}

function isSame(a: readonly Place[], b: readonly Place[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ memory, byteOffset }, i) => memory === b[i]!.memory && byteOffset === b[i]!.byteOffset)
  );
}
