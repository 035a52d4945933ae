// Replaces a file as a whole: after a kill at any moment its path has the old file or the new one.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import type { BigIntStats } from 'node:fs';
import { fileError, notRegularFile } from './errors.js';
import type { FilePlace } from './file-place.js';

const DOING = 'save a snapshot to';
/** Bytes written between two calls that ask the kernel to write them to the disk. */
const SYNC_EVERY = 2 ** 25;
/** So many writes are on their way at a time. A chunk is done with when as many more were asked for. */
export const WRITES_AT_ONCE = 3;

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
export async function findTarget({ given: target, absolute: from }: FilePlace): Promise<Target> {
  try {
    const real = await fs.realpath(from);
    const stats = await fs.stat(real, { bigint: true });
    // Renaming over a device or a FIFO would remove it.
    if (!stats.isFile()) throw notRegularFile(DOING, target, stats.isDirectory());
    return { path: target, real, stats };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw fileError(DOING, target, cause);
    const real = await whereItLeads(from).catch((error: unknown) => {
      throw fileError(DOING, target, error);
    });
    if (real === undefined) throw notRegularFile(DOING, target, true);
    return { path: target, real, stats: undefined };
  }
}

/**
 * Of a path where nothing is: itself, or what a link leads to that has nothing at its end yet. Undefined where
 * it is called as only a directory may be.
 */
async function whereItLeads(from: string): Promise<string | undefined> {
  let at = from;
  for (;;) {
    if (/(^|\/)\.{0,2}$/.test(at)) return undefined;
    const directory = await fs.realpath(path.dirname(at));
    const link = await fs.readlink(at).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    });
    if (link === undefined) return path.join(directory, path.basename(at));
    at = path.isAbsolute(link) ? link : `${directory}/${link}`;
  }
}

/**
 * Writes `chunks` to a new file beside the target, readable by its owner only, and puts it in its place
 * once it is on the disk. Whatever fails, the target is as it was and the new file is removed.
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

/** Makes pieces while others are written, and the disk writes meanwhile what came before. */
async function writeAll(
  file: fs.FileHandle,
  chunks: AsyncIterable<Uint8Array>,
  named: (cause: unknown) => never,
): Promise<void> {
  const work = new Background(named);
  let written = 0;
  let unsynced = 0;
  try {
    for await (const chunk of chunks) {
      await work.fewerWrites(WRITES_AT_ONCE);
      work.write(writeAt(file, chunk, written));
      written += chunk.length;
      unsynced += chunk.length;
      if (unsynced < SYNC_EVERY || work.isSyncing) continue;
      unsynced = 0;
      work.sync(file.datasync());
    }
    await work.fewerWrites(1);
    // The kernel tells a failure of the disk once, to whoever asks next: this one may have it.
    await work.synced();
  } finally {
    await work.settled();
  }
}

async function writeAt(file: fs.FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** What is on its way for the file, which must not be closed before. */
class Background {
  readonly #named: (cause: unknown) => never;
  /** The oldest first. */
  readonly #writes: Promise<void>[] = [];
  #syncing: Promise<void> | undefined;
  #failure: unknown;

  constructor(named: (cause: unknown) => never) {
    this.#named = named;
  }

  get isSyncing(): boolean {
    return this.#syncing !== undefined;
  }

  write(work: Promise<void>): void {
    this.#writes.push(this.#noted(work));
  }

  sync(work: Promise<void>): void {
    this.#syncing = this.#noted(work).then(() => (this.#syncing = undefined));
  }

  /** Waits for the oldest until there are less than `limit`, and throws what has failed so far. */
  async fewerWrites(limit: number): Promise<void> {
    while (this.#writes.length >= limit) await this.#writes.shift();
    this.#throwFailure();
  }

  async synced(): Promise<void> {
    await this.#syncing;
    this.#throwFailure();
  }

  async settled(): Promise<void> {
    await Promise.all([...this.#writes, this.#syncing]);
  }

  async #noted(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (cause) {
      this.#failure ??= cause;
    }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) this.#named(this.#failure);
  }
}
