/** How the machine is given a driver in which one module is another one. */
import * as v from 'valibot';

const variable = 'LOOPCSI_REPLACED_MODULE';

const shape = v.object({
  /** Below `dist/src/`. */
  file: v.string(),
  /** As it is compiled. */
  text: v.string(),
});
export type ReplacedModule = Readonly<v.InferOutput<typeof shape>>;

export function replacing(module: ReplacedModule): Readonly<Record<string, string>> {
  return { [variable]: JSON.stringify(module) };
}

/** What the environment asks for; undefined: the driver as it is. */
export function replacedModule(environment: NodeJS.ProcessEnv): ReplacedModule | undefined {
  const text = environment[variable];
  return text === undefined ? undefined : v.parse(shape, JSON.parse(text));
}
