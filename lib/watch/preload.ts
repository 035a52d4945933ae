// Loaded with --require into the program that `userfaultfd watch` runs, and so into its Workers.

import { subscribe } from 'node:diagnostics_channel';
import { Socket } from 'node:net';
import { inspect } from 'node:util';
import { getEnvironmentData, isMainThread, setEnvironmentData, threadId } from 'node:worker_threads';
import { chooseEngine } from '../dirty-engine.js';
import { RecordWriter } from './channel.js';
import { findMemories } from './find-memories.js';
import { MARK_CHANNEL, WATCH_VARIABLE } from './names.js';
import type { WatchConfig } from './records.js';
import { Watcher } from './watcher.js';
import { whenRegistered } from './yielding.js';

/** Of the environment data that Workers are given. */
const KEY = 'userfaultfd.watch';

/** For the main thread from the environment, where it does not stay: child processes are not watched. */
function configOf(): WatchConfig | undefined {
  if (!isMainThread) return getEnvironmentData(KEY) as WatchConfig | undefined;
  const text = process.env[WATCH_VARIABLE];
  if (text === undefined) return undefined;
  const config = JSON.parse(text) as WatchConfig;
  if (config.parent !== process.ppid) return undefined;
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- a name we share with the parent
  delete process.env[WATCH_VARIABLE];
  setEnvironmentData(KEY, config);
  return config;
}

function watch(config: WatchConfig): void {
  const writer = new RecordWriter(config.descriptor, threadId);
  let watcher: Watcher | undefined;
  // Before the addon is loaded, which has a listener too.
  process.on('exit', () => watcher?.end());
  try {
    watcher = new Watcher(writer, threadId, chooseEngine('--engine', config.engine));
  } catch (error) {
    writer.write({ type: 'problem', thread: threadId, message: (error as Error).message });
    return;
  }
  watchWith(watcher, config);
}

function watchWith(watcher: Watcher, config: WatchConfig): void {
  findMemories((memory, kind) => watcher.add(memory, kind), config);
  whenRegistered((buffer) => watcher.letGoOf(buffer));
  subscribe(MARK_CHANNEL, (name) => watcher.mark(typeof name === 'string' ? name : inspect(name)));
  setInterval(() => watcher.tick(), config.intervalMs).unref();
}

const config = configOf();
/** What makes the descriptor non-blocking, for all threads. Held, and never read: it must not close. */
export const held =
  config !== undefined && isMainThread
    ? new Socket({ fd: config.descriptor, readable: false, writable: true }).unref()
    : undefined;
if (config !== undefined) watch(config);
