import { transform } from 'esbuild';

/** The options of tsconfig.json that affect the output. */
const compilerOptions = {
  target: 'es2023',
  verbatimModuleSyntax: true,
  useDefineForClassFields: true,
} as const;

/** A static or dynamic import of a source file, whose name the compiler changes to `.js`. */
const ownImport = /(\bfrom\s*|\bimport\s*\(?\s*)(["'])(\.{1,2}\/[^"']+)\.ts\2/g;

/** Compiles a module without checking types. */
export async function compiled(source: string): Promise<string> {
  const { code } = await transform(source, {
    loader: 'ts',
    format: 'esm',
    target: compilerOptions.target,
    tsconfigRaw: { compilerOptions },
  });
  return code.replaceAll(ownImport, '$1$2$3.js$2');
}
