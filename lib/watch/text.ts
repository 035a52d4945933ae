// Words and figures for people.

import type { ProgramEnd } from './display.js';
import type { MemoryState, WatchedProgram } from './watched-program.js';

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
const MOST_LISTED = 8;

export const COMPARING = 'each look compares memory with a copy; `npx userfaultfd doctor` tells why';

export function bytesText(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1);
  return power === 0
    ? `${Math.round(bytes)} bytes`
    : `${(bytes / 1024 ** power).toFixed(1)} ${UNITS[power]!}`;
}

export function countText(count: number, unit?: string): string {
  const digits = Math.round(count).toLocaleString('en-US');
  return unit === undefined ? digits : `${digits} ${unit}${Math.round(count) === 1 ? '' : 's'}`;
}

export function secondsText(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** A name the program made up, fit for one line. */
export function nameText(name: string): string {
  const plain = name.replace(/\p{Cc}/gu, ' ');
  return plain.length <= 60 ? plain : `${plain.slice(0, 59)}…`;
}

export function titleOf({ memory, kind, byteLength, thread }: MemoryState): string {
  const where = thread === 0 ? '' : ` of Worker ${thread}`;
  return `#${memory} ${kind}${where} ${bytesText(byteLength)}`;
}

export function ratesOf({ pagesPerSecond, bytesPerSecond, share }: MemoryState): string {
  return `${countText(pagesPerSecond)} pages/s  ${bytesText(bytesPerSecond)}/s  ${(share * 100).toFixed(1)} %`;
}

export function endText(end: ProgramEnd, program: WatchedProgram): string {
  const how = end.signal === null ? `exit code ${end.code ?? '?'}` : `signal ${end.signal}`;
  const { memoriesEver, memoryCount, marks } = program;
  const listed = memoriesEver
    .filter(({ state, totalPages }) => state === 'live' || totalPages > 0)
    .slice(0, MOST_LISTED);
  const lines = [
    `userfaultfd: ${secondsText(program.elapsedMs)}, ${how}, ${counted(memoryCount)}; the looks took ${program.lookMs.toFixed(1)} ms`,
    ...listed.map((state) => {
      const gone = state.state === 'live' ? '' : ` ${state.state}`;
      return `  ${titleOf(state)}${gone}: ${countText(state.totalPages, 'page')} written, ${bytesText(state.totalBytes)}`;
    }),
  ];
  if (memoryCount > listed.length) lines.push(`  and ${countText(memoryCount - listed.length)} more`);
  if (!program.complete) lines.push('  The last look did not come: what was written after it is not known.');
  if (marks.count > 0) lines.push(`  ${marksText(marks)}`);
  return lines.join('\n');
}

export function counted(memories: number): string {
  return memories === 0 ? 'no memory' : memories === 1 ? '1 memory' : `${countText(memories)} memories`;
}

function marksText({ count, pages }: WatchedProgram['marks']): string {
  const sorted = [...pages].sort((a, b) => a - b);
  const middle = sorted[sorted.length >> 1]!;
  return `${countText(count, 'mark')}: ${countText(sorted[0]!)} to ${countText(sorted.at(-1)!, 'page')} each, ${countText(middle)} in the middle`;
}
