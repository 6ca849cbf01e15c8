/** Makes the machine run a driver in which one module is replaced. */
import * as v from 'valibot';

const variable = 'LOOPCSI_REPLACED_MODULE';

const shape = v.object({
  /** Below `dist/src/`. */
  file: v.string(),
  /** The compiled text of the module. */
  text: v.string(),
});
export type ReplacedModule = Readonly<v.InferOutput<typeof shape>>;

export function replacing(module: ReplacedModule): Readonly<Record<string, string>> {
  return { [variable]: JSON.stringify(module) };
}

/** The module that the environment names; undefined for the unchanged driver. */
export function replacedModule(environment: NodeJS.ProcessEnv): ReplacedModule | undefined {
  const text = environment[variable];
  return text === undefined ? undefined : v.parse(shape, JSON.parse(text));
}
