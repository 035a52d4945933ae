// npx userfaultfd snapshot: what is in snapshot files, whether they are whole, and joining them.

import { Presets, SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import type { DirtyPages } from './dirty-pages.js';
import { UffdError } from './errors.js';
import { printable } from './printable.js';
import type { SaveProgress } from './snapshot-encoder.js';
import { SnapshotFile } from './snapshot-file.js';
import type { SnapshotFileInfo } from './snapshot-info.js';

interface CommonOptions {
  json?: boolean;
  parent: string[];
}

interface Verified {
  path: string;
  intact: boolean;
  /** Files of the chain, pages and bytes in all of them; absent when it is not intact. */
  files?: number;
  pages?: number;
  bytes?: number;
  code?: string | undefined;
  message?: string;
}

/** As diff(1): 0 the same, 1 different, 2 trouble. */
const DIFFERENT = 1;
const TROUBLE = 2;
const RANGES_SHOWN = 20;

export function addSnapshotCommands(program: Command): void {
  const snapshot = program.command('snapshot').description('snapshot files: look, check, compare, join');
  const withOptions = (command: Command): Command =>
    command
      .option('--json', 'print JSON and nothing else')
      .option(
        '--parent <file>',
        'where to look for what a file is a difference from; may be repeated',
        collect,
        [],
      );

  snapshot
    .command('info <files...>')
    .description('what files hold and what they are a difference from; exit code 1 when one cannot be read')
    .option('--json', 'print JSON and nothing else')
    .action(showInfo);
  withOptions(snapshot.command('verify <files...>'))
    .description(
      'read every byte of files and of all they are a difference from; exit code 1 when one is not intact',
    )
    .action(verify);
  withOptions(snapshot.command('diff <a> <b>'))
    .description('the pages that differ; exit code 0 when none does, 1 when some do, 2 on trouble')
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : TROUBLE))
    .action(showDiff);
  withOptions(snapshot.command('compact <files...>'))
    .description('write the newest (last) of a chain of files as one file that needs no other')
    .requiredOption('-o, --output <file>', 'the file to write')
    .action(compact);
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}

async function showInfo(paths: string[], { json }: { json?: boolean }): Promise<void> {
  const infos: SnapshotFileInfo[] = [];
  for (const path of paths) {
    const info = await SnapshotFile.infoOf(path);
    if (!json) console.log(`${infos.length === 0 ? '' : '\n'}${infoText(info)}`);
    infos.push(info);
  }
  if (json) console.log(JSON.stringify(infos, undefined, 2));
}

function infoText(info: SnapshotFileInfo): string {
  const { parent, byteLengths, pageSize } = info;
  const named = parent === undefined || parent.name === '' ? '' : ` (${printable(parent.name)})`;
  return [
    info.path,
    `  digest    ${info.digest}`,
    `  parent    ${parent === undefined ? 'none: it needs no other file' : parent.digest + named}`,
    `  memory    ${byteLengths.map(sizeText).join(', ')}`,
    `  pages     ${info.pages} of ${pageSize} bytes are in it${info.zeroPages > 0 ? `, ${info.zeroPages} became zero` : ''}`,
    `  size      ${sizeText(info.bytes)}, format version ${info.version}`,
  ].join('\n');
}

async function verify(paths: string[], { json, parent }: CommonOptions): Promise<void> {
  const results: Verified[] = [];
  for (const path of paths) {
    const result = await verifyOne(path, parent, json);
    results.push(result);
    if (!json) console.log(verifiedText(result));
  }
  if (json) console.log(JSON.stringify(results, undefined, 2));
  process.exitCode = results.every(({ intact }) => intact) ? 0 : 1;
}

async function verifyOne(path: string, parents: string[], json: boolean | undefined): Promise<Verified> {
  try {
    using file = await SnapshotFile.open(path, { parents });
    const stats = await withBar(`verify ${path}`, json, (onProgress) => file.verify({ onProgress }));
    return { path, intact: true, ...stats };
  } catch (error) {
    if (!(error instanceof UffdError)) throw error;
    return { path, intact: false, code: error.code, message: error.message };
  }
}

function verifiedText({ path, intact, files, pages, bytes, code, message }: Verified): string {
  if (!intact) return `FAIL ${path}\n     ${message} [${code}]`;
  const several = files === 1 ? '' : ` in ${files} files`;
  return `ok   ${path}: ${pages} pages, ${sizeText(bytes!)}${several}`;
}

async function showDiff(pathA: string, pathB: string, { json, parent }: CommonOptions): Promise<void> {
  process.exitCode = TROUBLE;
  using a = await SnapshotFile.open(pathA, { parents: parent });
  using b = await SnapshotFile.open(pathB, { parents: parent });
  const pages = await SnapshotFile.diff(a, b);
  console.log(json ? JSON.stringify(pages, undefined, 2) : diffText(pages));
  process.exitCode = pages.isEmpty ? 0 : DIFFERENT;
}

function diffText(pages: DirtyPages): string {
  if (pages.isEmpty) return 'No page differs.';
  const lines = [`${pages.pageCount} pages differ, ${sizeText(pages.byteLength)}`];
  let count = 0;
  for (const { offset, length, memory } of pages) {
    if (count++ >= RANGES_SHOWN) continue;
    lines.push(`  ${memory === undefined ? '' : `memory ${memory} `}offset ${offset}, ${length} bytes`);
  }
  if (count > RANGES_SHOWN) lines.push(`  and ${count - RANGES_SHOWN} more ranges (--json has all)`);
  return lines.join('\n');
}

async function compact(
  paths: string[],
  { json, parent, output }: CommonOptions & { output: string },
): Promise<void> {
  const chain = [...parent, ...paths];
  const stats = await withBar(`compact ${paths.at(-1)}`, json, (onProgress) =>
    SnapshotFile.compact(chain, output, { onProgress }),
  );
  console.log(
    json
      ? JSON.stringify({ path: output, ...stats }, undefined, 2)
      : `${output}: ${stats.pages} pages, ${sizeText(stats.bytes)}\n  digest    ${stats.digest}`,
  );
}

/** Shows how far it is where somebody looks: on a terminal, and never among the output. */
async function withBar<T>(
  what: string,
  json: boolean | undefined,
  work: (onProgress: (progress: SaveProgress) => void) => Promise<T>,
): Promise<T> {
  const format = `${what} {bar} {percentage} % | {eta_formatted}`;
  const bar = new SingleBar({ format, stream: process.stderr, clearOnComplete: true }, Presets.rect);
  try {
    return await work(({ done, total }) => {
      if (json || !process.stderr.isTTY) return;
      if (!bar.isActive) bar.start(total, 0);
      bar.update(done);
    });
  } finally {
    bar.stop();
  }
}

function sizeText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  const step = bytes === 0 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1);
  const value = bytes / 2 ** (10 * step);
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[step]}`;
}
