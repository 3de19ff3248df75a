/** The part of the JavaScript WebAssembly API that training uses: TypeScript declares it for browsers alone. */

export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}

/** A compiled module; it can be handed to other threads. */
export interface CompiledModule {
  readonly [Symbol.toStringTag]?: string;
}

interface WasmRuntime {
  readonly Memory: new (size: { readonly initial: number; readonly maximum: number; readonly shared: true }) => SharedMemory;
  readonly Module: new (bytes: Uint8Array) => CompiledModule;
  readonly Instance: new (
    module: CompiledModule,
    imports: { readonly host: { readonly memory: SharedMemory } },
  ) => { readonly exports: Readonly<Record<string, unknown>> };
}

export const wasmRuntime = (globalThis as unknown as { readonly WebAssembly: WasmRuntime }).WebAssembly;
