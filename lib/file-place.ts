// Where a path led when it was given: the working directory may be another one in a moment.

import path from 'node:path';

export interface FilePlace {
  /** As it was given, which is what errors call it. */
  readonly given: string;
  readonly absolute: string;
}

/** Nothing is taken out of the path: what `..` leads to is known to the file system alone. */
export function filePlace(given: string): FilePlace {
  return { given, absolute: path.isAbsolute(given) ? given : `${workingDirectory()}${given}` };
}

/** Of a file in the same directory. */
export function placeBeside({ given, absolute }: FilePlace, name: string): FilePlace {
  return { given: directoryOf(given) + name, absolute: directoryOf(absolute) + name };
}

/** With the slash; none of a name alone. */
function directoryOf(file: string): string {
  return file.slice(0, file.lastIndexOf('/') + 1);
}

function workingDirectory(): string {
  try {
    return `${process.cwd()}/`;
  } catch {
    // It was removed: whoever uses the path is told so by the file system.
    return '';
  }
}
