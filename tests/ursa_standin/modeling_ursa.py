import torch
from torch import nn
from transformers import AutoModel, CLIPVisionConfig, CLIPVisionModel, PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

from .configuration_ursa import UrsaConfig


class UrsaForTokenClassification(PreTrainedModel):
    config_class = UrsaConfig

    def __init__(self, config):
        super().__init__(config)
        vision = CLIPVisionConfig(**(config.vision_config or {}))
        self.vision_model = CLIPVisionModel(vision)
        self.aligner = nn.Linear(vision.hidden_size, config.text_config.hidden_size)
        self.language_model = AutoModel.from_config(config.text_config)
        self.dropout = nn.Dropout(0.1)
        self.score = nn.Linear(config.text_config.hidden_size, 1)
        self.post_init()

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def forward(
        self,
        input_ids=None,
        pixel_values=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        return_dict=None,
    ):
        embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is not None:
            embeds, attention_mask = self.merged(input_ids, embeds, attention_mask, pixel_values)
        hidden = self.language_model(inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False)[0]
        return TokenClassifierOutput(logits=self.score(self.dropout(hidden)))

    def merged(self, input_ids, embeds, attention_mask, pixel_values):
        """One image per row, whose features take the place of its token."""
        features = self.aligner(self.vision_model(pixel_values).last_hidden_state[:, 1:])
        rows, masks = [], []
        for ids, row, mask, image in zip(input_ids, embeds, attention_mask, features, strict=True):
            at = int((ids == self.config.image_token_index).nonzero())
            rows.append(torch.cat([row[:at], image, row[at + 1 :]]))
            masks.append(torch.cat([mask[:at], mask.new_ones(len(image)), mask[at + 1 :]]))
        return torch.stack(rows), torch.stack(masks)
