// The barriers of the test build, typed and waited for without sleeping long.

import { binding, type NativeTesting } from '../../lib/binding.js';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';

export function testing(): NativeTesting {
  const hooks = binding().testing;
  if (hooks === undefined) throw new Error('these tests need the test build: npm test');
  return hooks;
}

/** Blocks this thread (it may not have an event loop to spare) until somebody waits at the barrier. */
export function untilSomebodyWaitsAt(name: string): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  while (testing().waitingAt(name) === 0) Atomics.wait(pause, 0, 0, 1);
}

/** Blocks until thread `tid` of this process sleeps in a userfault. */
export function untilAsleepInFault(tid: number): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  while (!isAsleepInFault(tid)) Atomics.wait(pause, 0, 0, 1);
}

/** Blocks until thread `tid` of this process waits for another one. */
export function untilAsleepInFutex(tid: number): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let where = wchan(tid); !where.includes('futex'); where = wchan(tid)) {
    if (where === '') throw new Error(`thread ${tid} has ended`);
    Atomics.wait(pause, 0, 0, 1);
  }
}

/** Blocks until thread `tid` of this process sleeps for a time. */
export function untilNapping(tid: number): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  while (!wchan(tid).includes('nanosleep')) Atomics.wait(pause, 0, 0, 1);
}

/** The time that thread `tid` of this process has spent in the kernel, in clock ticks: stime of proc(5). */
export function kernelTicks(tid: number): number {
  const stat = readFileSync(`/proc/self/task/${tid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[12]);
}

function isAsleepInFault(tid: number): boolean {
  return wchan(tid).includes('userfault');
}

/** The threads of this process that sleep in a userfault now. */
export function sleepersInFault(): number[] {
  return readdirSync('/proc/self/task').map(Number).filter(isAsleepInFault);
}

/** Where it sleeps in the kernel; '0': nowhere. */
export function wchan(tid: number): string {
  return ofThread(tid, 'wchan');
}

/** gettid(2). */
export function kernelThreadId(): number {
  return Number(path.basename(readlinkSync('/proc/thread-self')));
}

/** How often it was given a processor. */
export function runsOf(tid: number): number {
  return Number(ofThread(tid, 'schedstat').trim().split(' ')[2]);
}

/** On which processors it may run, as a list of ranges: proc_pid_status(5). */
export function allowedProcessors(tid: number): string {
  return /^Cpus_allowed_list:\s*(\S+)$/m.exec(ofThread(tid, 'status'))?.[1] ?? '';
}

/** As prctl(PR_SET_NAME) set it, at most 15 characters. */
export function threadName(tid: string | number): string {
  return ofThread(tid, 'comm').trim();
}

function ofThread(tid: string | number, file: string): string {
  try {
    return readFileSync(`/proc/self/task/${tid}/${file}`, 'utf8');
  } catch {
    // It has ended.
    return '';
  }
}
