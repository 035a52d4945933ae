// From a stream to a file.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { addAbortSignal, Readable } from 'node:stream';
import { findTarget, replaceFile } from './atomic-file.js';
import { abortError, fileError, invalidType } from './errors.js';
import { filePlace, type FilePlace } from './file-place.js';
import { OpenFile } from './open-file.js';
import type { SnapshotChain } from './snapshot-chain.js';
import { SnapshotLink } from './snapshot-link.js';
import { chainFrom, openChain, refuseOwnParent, type FileOrPlace } from './snapshot-parents.js';

export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** The chain of what `source` gives, kept at `target` or in a file without a name. */
export async function receive(
  source: ByteSource,
  wanted: string | undefined,
  parents: readonly FileOrPlace[],
  signal: AbortSignal | undefined,
): Promise<SnapshotChain> {
  // The file it becomes is called by where it is.
  const place = wanted === undefined ? undefined : filePlace(filePlace(wanted).absolute);
  const chunks = chunksOf(source, signal);
  try {
    return await keep(chunks, place, parents, signal);
  } catch (error) {
    // Nobody is going to read the rest, and it may not have been begun.
    if (source instanceof Readable) source.destroy();
    throw error;
  }
}

async function keep(
  chunks: AsyncIterable<Uint8Array>,
  place: FilePlace | undefined,
  parents: readonly FileOrPlace[],
  signal: AbortSignal | undefined,
): Promise<SnapshotChain> {
  if (place === undefined) return chainFrom(await SnapshotLink.read(await unnamedFile(chunks)), parents);
  const target = await findTarget(place);
  await replaceFile(target, chunks, async (temporary) => {
    // Called by the name it is going to have.
    const chain = await chainFrom(await SnapshotLink.open(place, temporary), parents);
    try {
      refuseOwnParent('options.path', target, chain.links);
      await chain.newest.verify({ signal });
    } finally {
      chain.release();
    }
  });
  return openChain(place, parents);
}

/** Removed at once: it is there as long as it is open. */
async function unnamedFile(chunks: AsyncIterable<Uint8Array>): Promise<OpenFile> {
  const name = path.join(os.tmpdir(), `.uffd-${process.pid}-${randomBytes(8).toString('hex')}.tmp`);
  const named = (cause: unknown): never => {
    throw fileError('keep a snapshot in', os.tmpdir(), cause);
  };
  const file = await fs.open(name, 'wx', 0o600).catch(named);
  try {
    await fs.unlink(name);
    for await (const chunk of chunks) await file.appendFile(chunk).catch(named);
    return await OpenFile.openAgain(file.fd);
  } finally {
    await file.close();
  }
}

function chunksOf(source: unknown, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
  if (source instanceof Readable) {
    // It may fail before it is read, which an error that nobody hears would make the end of the process:
    // reading it then says why. Also after that, as it is destroyed.
    source.on('error', () => undefined);
    return streamed(source, signal);
  }
  if (typeof source === 'object' && source !== null) {
    if (Symbol.asyncIterator in source) return raced(source as AsyncIterable<unknown>, signal);
    if (Symbol.iterator in source) return raced(inTurn(source as Iterable<unknown>), signal);
  }
  throw invalidType('source', 'a Readable or an iterable of Uint8Arrays', source);
}

async function* streamed(
  stream: Readable,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, undefined, undefined> {
  try {
    // So that an abort also ends the wait for a stream that gives nothing.
    if (signal !== undefined) addAbortSignal(signal, stream);
    for await (const chunk of stream) yield checkChunk(chunk);
  } catch (error) {
    throw signal?.aborted ? abortError(signal) : error;
  }
  return undefined;
}

/** What it throws is not the error to tell. */
async function returned(iterator: AsyncIterator<unknown>): Promise<void> {
  try {
    await iterator.return?.();
  } catch {
    return;
  }
}

function checkObject<T>(name: string, value: T): T {
  if (typeof value !== 'object' || value === null) throw invalidType(name, 'an object', value);
  return value;
}

async function* inTurn(source: Iterable<unknown>): AsyncGenerator<unknown, undefined, undefined> {
  for (const chunk of source) yield await chunk;
  return undefined;
}

function checkChunk(chunk: unknown): Uint8Array {
  if (!(chunk instanceof Uint8Array)) throw invalidType('chunk', 'an instance of Uint8Array', chunk);
  return chunk;
}

/** An abort ends the wait for the next chunk, also where the source never comes back from it. */
async function* raced(
  source: AsyncIterable<unknown>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, undefined, undefined> {
  const iterator = checkObject('source[Symbol.asyncIterator]()', source[Symbol.asyncIterator]());
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    if (signal === undefined) return;
    onAbort = () => reject(abortError(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
  aborted.catch(() => undefined);
  let ended = false;
  try {
    for (;;) {
      // Also of an iterator that gives no promises, as `for await` takes it.
      const next = Promise.resolve(iterator.next());
      next.catch(() => undefined);
      const result = checkObject('source.next()', await Promise.race([next, aborted]));
      const { done, value } = result as IteratorResult<unknown, unknown>;
      if (done === true) {
        ended = true;
        return undefined;
      }
      // Copied: unlike a stream, a generator may fill the same buffer again while this is being written.
      yield Buffer.from(checkChunk(value));
    }
  } finally {
    if (onAbort !== undefined) signal!.removeEventListener('abort', onAbort);
    // Not waited for: a generator that is stuck answers when it goes on.
    if (!ended) void returned(iterator);
  }
}
