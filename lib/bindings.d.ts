declare module 'bindings' {
  /** Finds and loads `bindings`.node under the directory `module_root`. */
  export default function bindings(options: { bindings: string; module_root: string }): unknown;
}
