from transformers import PretrainedConfig
from transformers.models.auto import CONFIG_MAPPING


class UrsaConfig(PretrainedConfig):
    model_type = "ursa"

    def __init__(self, text_config=None, vision_config=None, image_token_index=0, **kwargs):
        text_config = dict(text_config or {})
        self.text_config = CONFIG_MAPPING[text_config.pop("model_type", "qwen2")](**text_config)
        self.vision_config = vision_config
        self.image_token_index = image_token_index
        super().__init__(**kwargs)
