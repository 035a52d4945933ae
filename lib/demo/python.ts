// A real Python interpreter compiled to WebAssembly (npm package `pyodide`), and its memory.

import { UffdError } from '../errors.js';
import type { WasmMemory } from '../region.js';

/** What the demo uses of Pyodide. */
interface Pyodide {
  readonly version: string;
  runPython(code: string): unknown;
  readonly _module: { readonly memory: WasmMemory };
}

export class Python {
  readonly version: string;
  /** Everything that Python has: its heap, its stack, its modules. */
  readonly memory: WasmMemory;
  readonly #pyodide: Pyodide;

  private constructor(pyodide: Pyodide) {
    this.#pyodide = pyodide;
    this.memory = pyodide._module.memory;
    this.version = this.evaluate('import sys; sys.version.split()[0]') as string;
  }

  static async load(): Promise<Python> {
    let loadPyodide: () => Promise<unknown>;
    try {
      ({ loadPyodide } = (await import(PYODIDE)) as { loadPyodide: () => Promise<unknown> });
    } catch (cause) {
      throw new UffdError(
        'The demo runs Python in WebAssembly and needs the npm package "pyodide": npm install --save-dev pyodide',
        { code: 'ERR_UFFD_DEMO_PACKAGE' },
        { cause },
      );
    }
    return new Python((await loadPyodide()) as Pyodide);
  }

  /** The value of the last expression; strings, numbers and booleans as they are. */
  evaluate(code: string): unknown {
    return this.#pyodide.runPython(code);
  }

  /** Whether the code raises: a broken interpreter does on everything. */
  raises(code: string): boolean {
    try {
      this.evaluate(code);
      return false;
    } catch {
      return true;
    }
  }
}

// Not a literal in the import: it is a development dependency without which this package compiles.
const PYODIDE: string = 'pyodide';
