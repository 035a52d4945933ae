// The capabilities of a machine as text for people.

import type { Capabilities } from './capabilities.js';

/** Whether any of userfaultfd works here: `compare` needs none of it. */
export function isUsable(found: Capabilities): boolean {
  return found.engines.some((engine) => engine.works && engine.name !== 'compare');
}

export function doctorText(found: Capabilities): string {
  const mark = (ok: boolean): string => (ok ? 'yes' : 'no ');
  const { hugePages } = found;
  const sizes = hugePages.sizes.map((bytes) => `${bytes / 1024} KiB`).join(', ') || 'none';
  const transparent = hugePages.transparent ?? 'not known';
  const transparentSize =
    hugePages.transparentSize === undefined ? '' : `, ${hugePages.transparentSize / 1024} KiB`;
  const lines = [
    `Machine     ${found.platform} ${found.kernel ?? ''} ${found.architecture}, Node.js ${found.node}`,
    `Pages       ${found.pageSize ?? '?'} bytes; huge pages ${sizes}; transparent huge pages ${transparent}${transparentSize}`,
    '',
    'Memory',
    ...found.memory.map((each) =>
      `  ${mark(each.works)}  ${each.backing.padEnd(9)} ${each.reason ?? ''}`.trimEnd(),
    ),
    '',
    'Ways to open a userfaultfd',
    ...found.access.map((way) =>
      `  ${mark(way.code === undefined)}  ${way.access.padEnd(15)} ${way.code ?? ''}`.trimEnd(),
    ),
    `  ${mark(found.handlesKernelFaults)}  faults inside system calls can be served`,
    '',
    `Features    ${found.featureBits}`,
    ...columns(found.features, 4).map((line) => `  ${line}`),
    '',
    `PAGEMAP_SCAN  ${found.pagemapScan.works ? 'works' : `fails (${found.pagemapScan.code ?? 'not tried'})`}`,
    '',
    'Engines',
    ...found.engines.map((engine) =>
      `  ${mark(engine.works)}  ${engine.name.padEnd(9)} ${engine.reason ?? ''}`.trimEnd(),
    ),
    '',
    found.problems.length === 0 ? 'No problems found.' : 'Problems',
  ];
  for (const problem of found.problems) {
    lines.push(
      `  [${problem.severity}] ${problem.id}: ${problem.cause}`,
      `          remedy: ${problem.remedy}`,
    );
  }
  return lines.join('\n');
}

function columns(words: readonly string[], perLine: number): string[] {
  const width = Math.max(0, ...words.map((word) => word.length)) + 2;
  const lines: string[] = [];
  for (let i = 0; i < words.length; i += perLine) {
    lines.push(
      words
        .slice(i, i + perLine)
        .map((word) => word.padEnd(width))
        .join('')
        .trimEnd(),
    );
  }
  return lines.length === 0 ? ['none'] : lines;
}
