// A file that is open as long as somebody reads it: its descriptor is closed when the last user has
// let go, never under a read that is on its way.

import fs from 'node:fs';
import { promisify } from 'node:util';
import { fileError, notRegularFile } from './errors.js';
import type { FilePlace } from './file-place.js';

const read = promisify(fs.read);
const open = promisify(fs.open);

const UNNAMED = '(stream)';
const DOING = 'read the snapshot file';
/** fs.read takes no more at once. */
const MOST = 2 ** 30;

/** Of those that are forgotten. */
const forgotten = new FinalizationRegistry<number>((fd) => fs.closeSync(fd));

export class OpenFile {
  /** Undefined: it has none, its bytes came from a stream. */
  readonly place: FilePlace | undefined;
  readonly byteLength: number;
  readonly #fd: number;
  readonly #device: bigint;
  readonly #inode: bigint;
  #users = 1;

  private constructor(fd: number, place: FilePlace | undefined, stats: fs.BigIntStats) {
    this.place = place;
    this.byteLength = Number(stats.size);
    this.#fd = fd;
    this.#device = stats.dev;
    this.#inode = stats.ino;
    forgotten.register(this, fd, this);
  }

  /** `from`: where it is until it gets to its place. */
  static async open(place: FilePlace, from = place.absolute): Promise<OpenFile> {
    return OpenFile.#open(from, place);
  }

  /** The file of a descriptor, which may have no name any more. */
  static async openAgain(fd: number): Promise<OpenFile> {
    return OpenFile.#open(`/proc/self/fd/${fd}`, undefined);
  }

  static async #open(from: string, place: FilePlace | undefined): Promise<OpenFile> {
    const name = place?.given ?? UNNAMED;
    // O_NONBLOCK: opening a FIFO would wait for a writer.
    const flags = fs.constants.O_RDONLY | fs.constants.O_NONBLOCK;
    const fd = await open(from, flags).catch((cause: unknown) => {
      throw fileError(DOING, name, cause);
    });
    try {
      const stats = fs.fstatSync(fd, { bigint: true });
      if (!stats.isFile()) throw notRegularFile(DOING, name, stats.isDirectory());
      return new OpenFile(fd, place, stats);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  /** Good until the last user lets go. */
  get descriptor(): number {
    return this.#fd;
  }

  /** As it was given. */
  get path(): string | undefined {
    return this.place?.given;
  }

  /** For errors. */
  get name(): string {
    return this.path ?? UNNAMED;
  }

  isSameAs(stats: fs.BigIntStats): boolean {
    return stats.dev === this.#device && stats.ino === this.#inode;
  }

  /** Fills `into` from `position` on; false when the file ends before. */
  async fill(into: Uint8Array, position: number): Promise<boolean> {
    this.retain();
    try {
      for (let done = 0; done < into.length;) {
        const length = Math.min(into.length - done, MOST);
        const { bytesRead } = await read(this.#fd, into, done, length, position + done);
        if (bytesRead === 0) return false;
        done += bytesRead;
      }
      return true;
    } catch (cause) {
      throw fileError(DOING, this.name, cause);
    } finally {
      this.release();
    }
  }

  retain(): void {
    this.#users++;
  }

  release(): void {
    if (--this.#users > 0) return;
    forgotten.unregister(this);
    fs.closeSync(this.#fd);
  }
}
