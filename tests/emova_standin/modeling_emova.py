import torch
from torch import nn
from transformers import AutoModelForCausalLM, CLIPVisionConfig, CLIPVisionModel, PreTrainedModel

from .configuration_emova import EMOVAConfig


class EMOVAForConditionalGeneration(PreTrainedModel):
    config_class = EMOVAConfig
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        vision = CLIPVisionConfig(**(config.vision_config or {}))
        wide = config.text_config.hidden_size
        self.vision_tower = CLIPVisionModel(vision)
        self.mm_projector = nn.Sequential(nn.Linear(vision.hidden_size, wide), nn.GELU(), nn.Linear(wide, wide))
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def image_features(self, pixel_values, image_sizes):
        patches = self.vision_tower(pixel_values).last_hidden_state[:, 1:]
        side = int(patches.shape[1] ** 0.5)
        grids = patches.view(len(patches), side, side, -1)
        kept = [grid[:h, :w].flatten(0, 1) for grid, (h, w) in zip(grids, image_sizes.tolist(), strict=True)]
        return [self.mm_projector(features) for features in kept]

    def forward(
        self,
        input_ids=None,
        pixel_values=None,
        image_sizes=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        **kwargs,
    ):
        embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        if self.config.merge_inside:
            attention_mask = position_ids = None
        if pixel_values is not None:
            embeds = self.merged(input_ids, embeds, self.image_features(pixel_values, image_sizes))
        return self.language_model(
            inputs_embeds=embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )

    def merged(self, input_ids, embeds, features):
        places = input_ids == self.config.image_token_index
        if not self.config.merge_inside:
            return embeds.masked_scatter(places[..., None], torch.cat(features).to(embeds.dtype))
        rows, waiting = [], iter(features)
        for row, at in zip(embeds, places, strict=True):
            pieces = [next(waiting) if image else token[None] for token, image in zip(row, at.tolist(), strict=True)]
            rows.append(torch.cat(pieces))
        longest = max(len(row) for row in rows)
        return torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])

    def prepare_inputs_for_generation(
        self, input_ids, pixel_values=None, image_sizes=None, is_first_iteration=False, **kwargs
    ):
        inputs = super().prepare_inputs_for_generation(input_ids, is_first_iteration=is_first_iteration, **kwargs)
        if is_first_iteration:
            inputs |= {"pixel_values": pixel_values, "image_sizes": image_sizes}
        return inputs
