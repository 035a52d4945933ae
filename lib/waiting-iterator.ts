// The one async iterator of this package: batches inside, one consumer, Node's manners.

import { abortError } from './errors.js';

/** What an iterator needs from the object it belongs to. */
export interface Source<T> {
  /** The next value, or undefined when there is none yet. */
  take(): T | undefined;
  /** Whether values can still come, or the error that ended them. */
  ended(): boolean | Error;
  /** Somebody waits for a value now, or nobody does. Called after each change. */
  waiting(someone: boolean): void;
  /** The iterator is done with; another may be taken. */
  released(): void;
}

interface Waiter<T> {
  resolve(result: IteratorResult<T, undefined>): void;
  reject(error: Error): void;
}

/**
 * An iterator over what comes in time. Written out and not an async generator: the `return()` of a
 * generator waits for the `next()` before it, which may never come, and does nothing before the first.
 */
export class WaitingIterator<T> implements AsyncIterableIterator<T> {
  readonly #source: Source<T>;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => this.#finish(abortError(this.#signal!));
  #waiters: Waiter<T>[] = [];
  #finished = false;
  #error: Error | undefined;

  constructor(source: Source<T>, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#signal = signal;
    if (signal?.aborted) this.#finish(abortError(signal));
    else signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get finished(): boolean {
    return this.#finished;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.advance();
    });
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#finish(undefined);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Hands over what there is to those who wait. Called when there may be something. */
  advance(): void {
    while (this.#waiters.length > 0 && !this.#finished) {
      const value = this.#take();
      if (value !== undefined) {
        this.#waiters.shift()!.resolve({ done: false, value });
        continue;
      }
      if (!this.#hasEnded()) break;
    }
    if (this.#finished) this.#settleWaiters();
    else this.#source.waiting(this.#waiters.length > 0);
  }

  #hasEnded(): boolean {
    if (this.#finished) return true;
    const ended = this.#source.ended();
    if (ended === false) return false;
    this.#finish(ended === true ? undefined : ended);
    return true;
  }

  #take(): T | undefined {
    try {
      return this.#source.take();
    } catch (error) {
      this.#finish(error as Error);
      return undefined;
    }
  }

  #finish(error: Error | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#error = error;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#source.waiting(false);
    this.#source.released();
    this.#settleWaiters();
  }

  #settleWaiters(): void {
    for (const waiter of this.#waiters.splice(0)) {
      if (this.#error === undefined) {
        waiter.resolve({ done: true, value: undefined });
      } else {
        // Once: like any iterator that threw, it is then just done.
        const error = this.#error;
        this.#error = undefined;
        waiter.reject(error);
      }
    }
  }
}
