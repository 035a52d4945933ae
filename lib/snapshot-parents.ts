// From what a caller names, a path or an open file, to the chain behind it.

import type { Target } from './atomic-file.js';
import { invalidType, invalidValue } from './errors.js';
import { filePlace, type FilePlace } from './file-place.js';
import { SnapshotChain } from './snapshot-chain.js';
import type { SnapshotFile } from './snapshot-file.js';
import { SnapshotLink } from './snapshot-link.js';
import { checkPath } from './validate.js';

/** Checked, and of the time of the call. */
export type FileOrPlace = FilePlace | SnapshotFile;

/** Of the open files; throws when one is closed. */
const chains = new WeakMap<object, () => SnapshotChain>();

export function announce(file: SnapshotFile, chain: () => SnapshotChain): void {
  chains.set(file, chain);
}

export function isSnapshotFile(value: unknown): value is SnapshotFile {
  return typeof value === 'object' && value !== null && chains.has(value);
}

export function chainOf(name: string, file: unknown): SnapshotChain {
  if (!isSnapshotFile(file)) throw invalidType(name, 'a SnapshotFile', file);
  return chains.get(file)!();
}

export function checkFileOrPath(name: string, value: unknown): FileOrPlace {
  if (isSnapshotFile(value)) return value;
  if (typeof value !== 'string') throw invalidType(name, 'a path or a SnapshotFile', value);
  checkPath(name, value);
  return filePlace(value);
}

/** An array of them; a copy, which stays as it is. */
export function checkParents(value: unknown): FileOrPlace[] {
  if (value === undefined) return [];
  if (!Array.isArray(value))
    throw invalidType('options.parents', 'an array of paths and SnapshotFiles', value);
  return Array.from(value as unknown[], (each, i) => checkFileOrPath(`options.parents[${i}]`, each));
}

/** What is needed beside the new file would be gone once it is there. */
export function refuseOwnParent(
  name: string,
  { path, stats }: Target,
  needed: readonly SnapshotLink[],
): void {
  if (stats === undefined) return;
  if (needed.some((link) => link.file.isSameAs(stats))) {
    throw invalidValue(name, 'must not be a file that another of the chain is a difference from', path);
  }
}

/** The caller releases it. */
export async function openChain(
  source: FileOrPlace,
  parents: readonly FileOrPlace[] = [],
): Promise<SnapshotChain> {
  if (isSnapshotFile(source)) {
    const chain = chainOf('file', source);
    chain.retain();
    return chain;
  }
  return chainFrom(await SnapshotLink.open(source), parents);
}

/** Takes `newest` over, also when it throws. */
export async function chainFrom(
  newest: SnapshotLink,
  parents: readonly FileOrPlace[],
): Promise<SnapshotChain> {
  const candidates: SnapshotLink[] = [];
  try {
    for (const parent of parents) candidates.push(...(await candidatesOf(parent)));
  } catch (error) {
    newest.file.release();
    for (const { file } of candidates) file.release();
    throw error;
  }
  try {
    return await SnapshotChain.of(newest, candidates);
  } finally {
    for (const { file } of candidates) file.release();
  }
}

async function candidatesOf(parent: FileOrPlace): Promise<readonly SnapshotLink[]> {
  if (!isSnapshotFile(parent)) return [await SnapshotLink.open(parent)];
  const chain = chainOf('parent', parent);
  chain.retain();
  return chain.links;
}
