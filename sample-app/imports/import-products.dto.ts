import { Type } from 'class-transformer';
import { ArrayMaxSize, ArrayMinSize, IsArray, Length, Matches, ValidateNested } from 'class-validator';

export class ProductRowDto {
  @Matches(/^[A-Z0-9-]{1,30}$/)
  sku!: string;

  @Length(1, 50)
  name!: string;
}

export class ImportProductsDto {
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(1000)
  @ValidateNested({ each: true })
  @Type(() => ProductRowDto)
  products!: ProductRowDto[];
}
