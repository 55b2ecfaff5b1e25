/** A class's methods, as decorators and the boot scan both need to see them. */

/** Own and inherited methods by name, the nearest of each. Accessors are left alone: reading them runs code. */
export function methodsOf(prototype: object): Map<string | symbol, PropertyDescriptor> {
  const methods = new Map<string | symbol, PropertyDescriptor>();
  for (
    let level: object | null = prototype;
    level !== null && level !== Object.prototype;
    level = Object.getPrototypeOf(level) as object | null
  ) {
    for (const key of Reflect.ownKeys(level)) {
      const descriptor = Object.getOwnPropertyDescriptor(level, key);
      if (key !== 'constructor' && typeof descriptor?.value === 'function' && !methods.has(key)) methods.set(key, descriptor);
    }
  }
  return methods;
}
