import { Length } from 'class-validator';

export class ReplaceProfileDto {
  @Length(1, 100)
  name!: string;

  @Length(0, 300)
  address!: string;
}
