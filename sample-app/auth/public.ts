import { Reflector } from '@nestjs/core';

/** `@Public(true)`: no token is asked for. */
export const Public = Reflector.createDecorator<boolean>();
