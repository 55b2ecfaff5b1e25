/** Runs the checks of option-checks.ts and words what class-validator finds as faults of ours. */
import { validateSync } from 'class-validator';
import type { ValidationError } from 'class-validator';
import { shown } from './faults.js';
import type { Fault, Faults } from './faults.js';
import { DeduplicateOptionChecks, ModuleOptionChecks, ReaperOptionChecks, RouteOptionChecks } from './option-checks.js';
import type { DeduplicateOptions, IdempotencyModuleOptions, IdempotentOptions } from './options.js';

type Checks = RouteOptionChecks | DeduplicateOptionChecks;

/** The module's options that were given and are sound. */
export function acceptedModuleOptions(written: IdempotencyModuleOptions, faults: Faults): IdempotencyModuleOptions {
  return sound(written, new ModuleOptionChecks(), undefined, faults);
}

/** A controller's or handler's options that were given and are sound; `where` says whose they are. */
export function acceptedRouteOptions(written: IdempotentOptions | undefined, where: string, faults: Faults): IdempotentOptions {
  return written === undefined ? {} : sound(written, new RouteOptionChecks(), where, faults);
}

/** The options of a handler's `@Deduplicate()`, likewise. */
export function acceptedDeduplicateOptions(written: DeduplicateOptions, where: string, faults: Faults): Partial<DeduplicateOptions> {
  return sound<Partial<DeduplicateOptions>>(written, new DeduplicateOptionChecks(), where, faults);
}

/** Those of the module's options that are defaults for its routes. */
export function routeDefaultsIn(options: IdempotencyModuleOptions): IdempotentOptions {
  const ofRoutes = new RouteOptionChecks();
  return given<IdempotentOptions>(options, (name) => Object.hasOwn(ofRoutes, name));
}

/** Without the faulty ones the rest can be worked with, until all faults are told. */
function sound<Options extends object>(written: Options, checks: Checks, where: string | undefined, faults: Faults): Options {
  if (typeof written !== 'object' || written === null) {
    faults.add({ option: 'options', fault: `are ${shown(written)}`, remedy: 'Give an object, or nothing.', ...at(where) });
    return {} as Options;
  }
  const found = faultsIn(written, checks, where);
  for (const fault of found) faults.add(fault);
  const faulty = new Set(found.map(({ option }) => option.split('.', 1)[0]));
  return given(written, (name) => !faulty.has(name));
}

/** Those that were given a value: `undefined` and `null` are as good as left out. */
export function given<Options extends object>(written: Options, wanted: (name: string) => boolean = () => true): Options {
  return Object.fromEntries(
    Object.entries(written).filter(([name, value]) => value !== undefined && value !== null && wanted(name)),
  ) as Options;
}

function faultsIn(written: object, checks: Checks, where: string | undefined): readonly Fault[] {
  const known = Object.keys(checks);
  Object.assign(checks, written);
  if (checks instanceof ModuleOptionChecks && typeof checks.reaper === 'object' && checks.reaper !== null) {
    checks.reaper = Object.assign(new ReaperOptionChecks(), checks.reaper);
  }
  const errors = validateSync(checks, { whitelist: true, forbidNonWhitelisted: true, stopAtFirstError: true });
  const unknown = checks instanceof DeduplicateOptionChecks ? unknownInDeduplicate : unknownOption;
  return errors.flatMap((error) => faultsOf(error, '', (option) => unknown(option, known), where));
}

type Unknown = (option: string) => Pick<Fault, 'fault' | 'remedy'>;

function faultsOf(error: ValidationError, prefix: string, unknown: Unknown, where: string | undefined): readonly Fault[] {
  const option = `${prefix}${error.property}`;
  const own = Object.entries(error.constraints ?? {}).map(([check, fault]) =>
    check === 'whitelistValidation'
      ? { option, ...unknown(option), ...at(where) }
      : { option, fault, remedy: remedyOf(error, check), ...at(where) },
  );
  return [...own, ...(error.children ?? []).flatMap((child) => faultsOf(child, `${option}.`, unknownInReaper, where))];
}

function unknownInReaper(option: string): Pick<Fault, 'fault' | 'remedy'> {
  return unknownOption(option, Object.keys(new ReaperOptionChecks()));
}

function unknownInDeduplicate(option: string, known: readonly string[]): Pick<Fault, 'fault' | 'remedy'> {
  return { fault: 'is no option of @Deduplicate()', remedy: `There are: ${known.join(', ')}. All else is as the module has it.` };
}

function unknownOption(option: string, known: readonly string[]): Pick<Fault, 'fault' | 'remedy'> {
  if (Object.hasOwn(new ModuleOptionChecks(), option)) {
    return { fault: 'is an option of the whole module', remedy: 'Move it to IdempotencyModule.forRoot().' };
  }
  return { fault: 'is no option', remedy: `Look at its spelling; there are: ${known.join(', ')}.` };
}

function remedyOf(error: ValidationError, check: string): string {
  const context = error.contexts?.[check] as { readonly remedy: string } | undefined;
  return context?.remedy ?? '';
}

function at(where: string | undefined): Pick<Fault, 'where'> {
  return where === undefined ? {} : { where };
}
