import { Transform } from 'class-transformer';
import { ArrayMaxSize, IsIn, IsString, MaxLength } from 'class-validator';
import { STORY_NAMES } from './story-views.js';
import type { StoryName } from './story-views.js';

export class PageStateDto {
  @IsIn(STORY_NAMES)
  story!: StoryName;

  /** `?key=a&key=b`; one alone comes as a text. */
  @Transform(({ value }: { value: unknown }) => (Array.isArray(value) ? value : [value]), { toClassOnly: true })
  @ArrayMaxSize(20)
  @IsString({ each: true })
  @MaxLength(255, { each: true })
  key: string[] = [];
}
