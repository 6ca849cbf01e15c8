import { transform } from 'esbuild';

/** As tsconfig.json has it, as far as the output depends on it. */
const compilerOptions = {
  target: 'es2023',
  verbatimModuleSyntax: true,
  useDefineForClassFields: true,
} as const;

/** An import of ours, or a dynamic one, of what the compiler calls `.js`. */
const ownImport = /(\bfrom\s*|\bimport\s*\(?\s*)(["'])(\.{1,2}\/[^"']+)\.ts\2/g;

/** What the compiler makes of a module, without looking at types. */
export async function compiled(source: string): Promise<string> {
  const { code } = await transform(source, {
    loader: 'ts',
    format: 'esm',
    target: compilerOptions.target,
    tsconfigRaw: { compilerOptions },
  });
  return code.replaceAll(ownImport, '$1$2$3.js$2');
}
