// Replaces a file as a whole: after a kill at any moment its path has the old file or the new one.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import type { BigIntStats } from 'node:fs';
import { fileError, notRegularFile } from './errors.js';

const DOING = 'save a snapshot to';
/** Bytes written between two calls that ask the kernel to write them to the disk. */
const SYNC_EVERY = 2 ** 25;

/** What is at a path that is to be written. */
export interface Target {
  /** As the caller named it. */
  path: string;
  /** Without symbolic links: what they lead to is replaced, not they. */
  real: string;
  /** What is there now. */
  stats: BigIntStats | undefined;
}

/** @throws what is wrong with the path, before anything is written. */
export async function findTarget(target: string): Promise<Target> {
  try {
    const real = await fs.realpath(target);
    const stats = await fs.stat(real, { bigint: true });
    // Renaming over a device or a FIFO would remove it.
    if (!stats.isFile()) throw notRegularFile(DOING, target, stats.isDirectory());
    return { path: target, real, stats };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw fileError(DOING, target, cause);
    return { path: target, real: path.resolve(target), stats: undefined };
  }
}

/**
 * Writes `chunks` to a new file beside the target, readable by its owner only, and puts it in its place
 * once it is on the disk. Whatever fails, the target is as it was and the new file is removed.
 * A chunk is done with once the next but one is asked for.
 * `check` may still refuse what was written.
 */
export async function replaceFile(
  target: Target,
  chunks: AsyncIterable<Uint8Array>,
  check?: (temporary: string) => Promise<void>,
): Promise<void> {
  const directory = path.dirname(target.real);
  const temporary = path.join(directory, `.uffd-${process.pid}-${randomBytes(8).toString('hex')}.tmp`);
  const named = (cause: unknown): never => {
    throw fileError(DOING, target.path, cause);
  };
  // Opened first: it is needed at the end, when a failure would come too late.
  const parent = await fs.open(directory, 'r').catch(named);
  try {
    const file = await fs.open(temporary, 'wx', 0o600).catch(named);
    try {
      try {
        await writeAll(file, chunks, named);
        await file.sync().catch(named);
      } finally {
        await file.close();
      }
      await check?.(temporary);
      await fs.rename(temporary, target.real).catch(named);
    } catch (error) {
      // It may be gone, or the directory read-only by now: the first error is the one to tell.
      await fs.rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    }
    await parent.sync().catch(named);
  } finally {
    await parent.close();
  }
}

/** Makes each piece while the one before is written, and the disk writes meanwhile what came before. */
async function writeAll(
  file: fs.FileHandle,
  chunks: AsyncIterable<Uint8Array>,
  named: (cause: unknown) => never,
): Promise<void> {
  const work = new Background(named);
  let unsynced = 0;
  try {
    for await (const chunk of chunks) {
      await work.ended('write');
      work.start('write', file.appendFile(chunk));
      unsynced += chunk.length;
      if (unsynced < SYNC_EVERY || work.has('sync')) continue;
      unsynced = 0;
      work.start('sync', file.datasync());
    }
    await work.ended('write');
    // The kernel tells a failure of the disk once, to whoever asks next: this one may have it.
    await work.ended('sync');
  } finally {
    await work.settled();
  }
}

/** What is on its way for the file, which must not be closed before. */
class Background {
  readonly #named: (cause: unknown) => never;
  readonly #running = new Map<string, Promise<void>>();
  #failure: unknown;

  constructor(named: (cause: unknown) => never) {
    this.#named = named;
  }

  has(name: string): boolean {
    return this.#running.has(name);
  }

  start(name: string, work: Promise<void>): void {
    const noted = work
      .catch((cause: unknown) => (this.#failure ??= cause))
      .then(() => void this.#running.delete(name));
    this.#running.set(name, noted);
  }

  /** Waits for it, and throws what has failed so far. */
  async ended(name: string): Promise<void> {
    await this.#running.get(name);
    if (this.#failure !== undefined) this.#named(this.#failure);
  }

  async settled(): Promise<void> {
    await Promise.all(this.#running.values());
  }
}
