// A snapshot in a file: the object for users.

import { constants } from 'node:buffer';
import { inspect } from 'node:util';
import { findTarget, replaceFile } from './atomic-file.js';
import { DirtyPages } from './dirty-pages.js';
import { closedError, invalidValue, snapshotPageSize } from './errors.js';
import { filePlace } from './file-place.js';
import { checkLazyOptions, isLazy, LazyRestore, type LazyRestoreOptions } from './lazy-restore.js';
import { ListedPages } from './page-set.js';
import type { Trackable } from './region.js';
import type { SnapshotChain } from './snapshot-chain.js';
import { compactChain } from './snapshot-compact.js';
import { differingPages } from './snapshot-diff.js';
import { SnapshotEncoder, type SaveProgress, type SaveStats } from './snapshot-encoder.js';
import { chainInfo, fileInfo, type SnapshotFileInfo, type SnapshotInfo } from './snapshot-info.js';
import { SnapshotLink } from './snapshot-link.js';
import {
  announce,
  chainOf,
  checkFileOrPath,
  checkParents,
  isSnapshotFile,
  openChain,
  refuseOwnParent,
} from './snapshot-parents.js';
import { receive, type ByteSource } from './snapshot-receive.js';
import { restoreChain, type FileRestoreStats } from './snapshot-restore.js';
import { toRegions } from './trackable.js';
import {
  checkByteRange,
  checkConstruct,
  checkInteger,
  checkOptions,
  checkPath,
  checkProgress,
  checkSignal,
  CONSTRUCT,
} from './validate.js';

export interface OpenSnapshotOptions {
  /**
   * Where to look for what the file is a difference from, in any order; more than is needed is fine.
   * Each is also looked for beside the file that needs it, under the name it had when that was saved.
   */
  parents?: readonly (string | SnapshotFile)[];
}

export interface ReceiveOptions extends OpenSnapshotOptions {
  /** Where to keep what is received. Default: a file without a name, which goes when it is closed. */
  path?: string;
  signal?: AbortSignal;
}

export interface FileWorkOptions {
  signal?: AbortSignal;
  /** In bytes of pages. What it throws ends the work. */
  onProgress?: (progress: SaveProgress) => void;
}

export interface FileRestoreOptions extends FileWorkOptions {
  /** `true` is another way to restore: see `LazyRestoreOptions`. */
  lazy?: false;
}

export interface VerifyStats {
  files: number;
  /** In all of them. */
  pages: number;
  bytes: number;
}

/**
 * A snapshot in a file, whole or a difference from another one. Its header and index are checked when
 * it is opened, its pages whenever they are read. It keeps a descriptor for each file of its chain
 * until it is closed.
 */
export class SnapshotFile implements Disposable {
  readonly #chain: SnapshotChain;
  #closed = false;

  private constructor(token: typeof CONSTRUCT, chain: SnapshotChain) {
    checkConstruct('SnapshotFile', token);
    this.#chain = chain;
    announce(this, () => this.#open());
  }

  /**
   * @throws {UffdError} `ERR_UFFD_SNAPSHOT_CORRUPT`, `…_VERSION`, `…_PARENT_MISSING`, `…_PARENT_MISMATCH`,
   * or what the file system refuses.
   */
  static async open(path: string, options?: OpenSnapshotOptions): Promise<SnapshotFile> {
    const { parents } = checkOptions('options', options, ['parents']);
    checkPath('path', path);
    return new SnapshotFile(CONSTRUCT, await openChain(filePlace(path), checkParents(parents)));
  }

  /**
   * The way back from `snapshot.stream()`: reads all of it. With a `path` the file is put there when all
   * of it has come and every page is right, and else what was there stays.
   * @throws as `open` does.
   */
  static async from(source: ByteSource, options?: ReceiveOptions): Promise<SnapshotFile> {
    const { parents, path, signal } = checkOptions('options', options, ['parents', 'path', 'signal']);
    if (path !== undefined) checkPath('options.path', path);
    return new SnapshotFile(
      CONSTRUCT,
      await receive(source, path, checkParents(parents), checkSignal(signal)),
    );
  }

  /**
   * Writes what the newest file of a chain stands for as one file that needs no other: the same bytes as
   * a full save. `chain` is a file, or all files of its chain with the newest last.
   * @throws as `open` and `snapshot.save` do; the target is as it was then.
   */
  static async compact(
    chain: string | SnapshotFile | readonly (string | SnapshotFile)[],
    path: string,
    options?: FileWorkOptions,
  ): Promise<SaveStats> {
    const { signal, onProgress } = checkWorkOptions(options);
    checkPath('path', path);
    const place = filePlace(path);
    const given = Array.isArray(chain) ? (chain as unknown[]) : [chain];
    const all = Array.from(given, (each) => checkFileOrPath('chain', each));
    if (all.length === 0) throw invalidValue('chain', 'must not be an empty array', chain);
    const newest = await openChain(all.pop()!, all);
    try {
      const encoder = new SnapshotEncoder(newest.pageSize, newest.maps.length);
      const target = await findTarget(place);
      // The newest itself may be replaced by what it stands for.
      refuseOwnParent('path', target, newest.links.slice(0, -1));
      await replaceFile(target, compactChain(encoder, newest, signal, onProgress));
      return encoder.stats!;
    } finally {
      newest.release();
    }
  }

  /**
   * The pages whose content differs. They are compared by their SHA-256, so no page is read. Where one
   * has more memory than the other, the other counts as zero there.
   */
  static async diff(a: SnapshotFile, b: SnapshotFile): Promise<DirtyPages> {
    const [chainA, chainB] = [chainOf('a', a), chainOf('b', b)];
    if (chainA.pageSize !== chainB.pageSize) throw snapshotPageSize(chainB.pageSize, chainA.pageSize);
    if (chainA.maps.length !== chainB.maps.length) {
      throw invalidValue('b', `must have ${chainA.maps.length} memories, like a`, b);
    }
    return a.#use(() =>
      b.#use(async () => {
        const { pageSize } = chainA;
        const sets = [];
        for (const memory of chainA.maps.keys()) {
          const lengths = [chainA, chainB].map(({ newest }) => newest.memories[memory]!.byteLength);
          const size = Math.max(...lengths);
          const ranges = (await differingPages(chainA, chainB, memory)).toRanges(pageSize, size);
          sets.push(new ListedPages(ranges, { region: undefined, size, pageSize, lead: 0 }));
        }
        return new DirtyPages(CONSTRUCT, sets);
      }),
    );
  }

  /** What a file says of itself, also when what it is a difference from is not there. */
  static async infoOf(path: string): Promise<SnapshotFileInfo> {
    checkPath('path', path);
    const link = await SnapshotLink.open(filePlace(path));
    link.file.release();
    return fileInfo(link);
  }

  static isSnapshotFile(value: unknown): value is SnapshotFile {
    return isSnapshotFile(value);
  }

  /** Undefined when it came from a stream and was not kept. */
  get path(): string | undefined {
    return this.#chain.newest.file.path;
  }

  /** Names the file and everything in it: SHA-256, hexadecimal. */
  get digest(): string {
    return this.#chain.newest.digest.toString('hex');
  }

  /** In bytes. */
  get pageSize(): number {
    return this.#chain.pageSize;
  }

  /** Size of each memory, in bytes. */
  get byteLengths(): readonly number[] {
    return this.#chain.newest.memories.map(({ byteLength }) => byteLength);
  }

  get closed(): boolean {
    return this.#closed;
  }

  info(): SnapshotInfo {
    return chainInfo(this.#open());
  }

  /**
   * Reads every byte of the file, and of all it is a difference from, and checks it.
   * @throws {UffdError} `ERR_UFFD_SNAPSHOT_CORRUPT`, whose `path` is the file.
   */
  async verify(options?: FileWorkOptions): Promise<VerifyStats> {
    const { signal, onProgress } = checkWorkOptions(options);
    return this.#use(async ({ links, pageSize }) => {
      const pages = links.reduce((sum, { trailer }) => sum + trailer.dataPages, 0);
      const total = pages * pageSize;
      let done = 0;
      const onBytes = (bytes: number): void => onProgress?.({ done: (done += bytes), total });
      for (const link of links) await link.verify({ signal, onBytes });
      return { files: links.length, pages, bytes: links.reduce((sum, { file }) => sum + file.byteLength, 0) };
    });
  }

  /** A copy of the bytes. `offset` and `length` are bytes; `memory` is which of several. */
  async read(offset = 0, length?: number, memory = 0): Promise<Uint8Array> {
    const { newest } = this.#open();
    checkInteger('memory', memory, 0, newest.memories.length - 1);
    const { byteLength } = newest.memories[memory]!;
    if (byteLength === 0 && offset === 0 && length === undefined) return new Uint8Array(0);
    const range = checkByteRange(length === undefined ? { offset } : { offset, length }, byteLength);
    // What one array can have: 4 GiB in Node.js 20.
    checkInteger('length', range.length, 1, constants.MAX_LENGTH);
    return this.#use((chain) => chain.read(memory, range.offset, range.length));
  }

  /**
   * Puts the bytes into memory, in the order of the memories when there are several. Pages that are as
   * they should be are not written; the others count as written for whoever tracks the memory. Before the
   * first is written all have been read and checked, so that a damaged file leaves the memory untouched.
   * Up to 64 MiB of pages then arrive at once; more are read a second time and arrive one after another,
   * and the signal is heard only before.
   * @throws {UffdError} `ERR_UFFD_SNAPSHOT_CORRUPT`, `…_LENGTH` when a memory has another size, `…_PAGE_SIZE`.
   */
  restore(memory: Trackable | readonly Trackable[], options?: FileRestoreOptions): Promise<FileRestoreStats>;
  /**
   * The same at once: when this returns the memory has the content. Each page is read and checked when it
   * is touched first, the others in the background. What was in the memory is thrown away. Pages that are
   * loaded do not count as written for whoever tracks the memory: `tracker.markDirty()` tells a reader
   * that does not know the file. What becomes of a damaged file is said at `LazyRestore.loaded`.
   * @throws {UffdError} `…_LENGTH`, `…_PAGE_SIZE`, `ERR_UFFD_BUSY` when something else has the memory, and
   * what opening a userfaultfd refuses; the memory is untouched then.
   */
  restore(memory: Trackable | readonly Trackable[], options: LazyRestoreOptions): LazyRestore;
  restore(
    memory: Trackable | readonly Trackable[],
    options?: FileRestoreOptions | LazyRestoreOptions,
  ): Promise<FileRestoreStats> | LazyRestore {
    if (isLazy(options)) {
      const regions = toRegions(memory);
      const checked = checkLazyOptions(options, regions);
      // Last: what was checked may have run code that closes it, or changes the memory.
      return new LazyRestore(CONSTRUCT, this.#open(), regions, checked);
    }
    return this.#restoreAll(memory, options);
  }

  /** Closes the files once nothing that is under way needs them. Closing twice is fine. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#chain.release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    if (!(#closed in this)) return 'SnapshotFile {}';
    if (this.#closed) return 'SnapshotFile { closed }';
    return `SnapshotFile { ${this.#chain.newest.file.name}, ${this.#chain.links.length} in the chain }`;
  }

  #open(): SnapshotChain {
    if (this.#closed) throw closedError('snapshot file');
    return this.#chain;
  }

  async #restoreAll(memory: unknown, options: unknown): Promise<FileRestoreStats> {
    const { signal, onProgress } = checkWorkOptions(options, 'lazy');
    const regions = toRegions(memory);
    return this.#use((chain) => restoreChain(chain, regions, { signal, onProgress }));
  }

  async #use<T>(work: (chain: SnapshotChain) => Promise<T>): Promise<T> {
    const chain = this.#open();
    chain.retain();
    try {
      return await work(chain);
    } finally {
      chain.release();
    }
  }
}

/** `others`: what else there may be. */
function checkWorkOptions(
  options: unknown,
  ...others: string[]
): {
  signal: AbortSignal | undefined;
  onProgress: FileWorkOptions['onProgress'];
} {
  const { signal, onProgress } = checkOptions('options', options, ['signal', 'onProgress', ...others]);
  checkProgress(onProgress);
  return { signal: checkSignal(signal), onProgress: onProgress as FileWorkOptions['onProgress'] };
}
